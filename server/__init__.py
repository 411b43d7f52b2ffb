"""The service: the strategies behind the OpenAI API, on vLLM."""
