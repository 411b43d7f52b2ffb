"""The blocks that are not run here, by name, with the reason."""

UNRUN = {
    "README.md#Two commands:sh": "it is this suite itself, and a demo of several minutes over the server that "
    "test_demo.py asks; that make knows its targets is checked",
    "README.md#Add it to your vLLM:sh": "tests/engines/hosted/test_vllm_plugin.py starts a server by its second line",
    "docs/vllm-plugin.md#Adding it:sh": "the same two lines as in the README",
    "README.md#Deployment:sh": "needs a Docker engine",
    "CONTRIBUTING.md#Set up:sh": "it is this suite itself; that make knows its targets is checked",
    "docs/deployment.md#From an empty GPU host to the first answer:sh": "installs packages on a host with a GPU",
    "docs/deployment.md#What can be set:sh": "needs a Docker engine",
    "docs/deployment.md#On Kubernetes:sh": "needs a cluster; tests/deployment/test_chart.py renders the chart",
    "docs/deployment.md#Upgrades, logs, back-up:sh": "needs a Docker engine",
}
