"""Guides for the measurements of speed, made from the demo's policy."""

from pathlib import Path

SHIPPED = Path(__file__).parents[2] / "server/demo/assets/guides/positive"
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def make_guides(policy: str, folder: Path) -> tuple[str, str]:
    """Return the paths of an adapter on the policy's top layers and of a checkpoint that shares no weight with it.

    The adapter is the demo's where it exists, else a random one: what a guide has learnt makes no difference to its
    speed. The checkpoint has the adapter merged, and every weight changed by about a hundredth.
    """
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    if (SHIPPED / "adapter_config.json").is_file():
        adapter, tuned = SHIPPED, PeftModel.from_pretrained(base, str(SHIPPED))
    else:
        layers = base.config.num_hidden_layers
        top = list(range(layers // 2, layers))
        tuned = get_peft_model(base, LoraConfig(r=8, target_modules=LINEAR, layers_to_transform=top))
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
        adapter = folder / "adapter"
        tuned.save_pretrained(adapter)
    guide = tuned.merge_and_unload()
    with torch.no_grad():
        for weight in guide.parameters():
            weight.mul_(1 + 0.01 * torch.randn_like(weight))
    guide.to(torch.bfloat16).save_pretrained(folder / "guide")
    AutoTokenizer.from_pretrained(policy).save_pretrained(folder / "guide")
    return str(adapter), str(folder / "guide")
