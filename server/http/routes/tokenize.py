"""POST /tokenize and POST /detokenize: the policy's tokens of a text or a chat, and back."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.http.body import BodyReader
from server.http.json_response import json_response
from server.http.prompts import check_vocabulary, encode_chat
from server.http.schemas.tokenize import DetokenizeBody, Detokenized, TokenizeBody, Tokens
from server.runtime.state import ServerState


def router(state: ServerState) -> APIRouter:
    """Return the routes. They raise `InvalidRequest` or `UnknownModel`."""
    routes = APIRouter()
    text = state.loaded.text
    bodies = BodyReader(state)

    @routes.post("/tokenize")
    async def tokenize(request: Request) -> Response:
        body = await bodies.read(request, TokenizeBody)
        if body.messages is not None:
            tokens = (await encode_chat(body.messages, body, text)).tokens
        elif body.add_special_tokens is False:
            tokens = (await text.completion(body.prompt or "", ended=False)).tokens
        else:
            tokens = (await text.encode(body.prompt or "")).tokens
        answer = Tokens(
            count=len(tokens),
            max_model_len=text.max_model_len,
            tokens=list(tokens),
            token_strs=text.token_strs(tokens) if body.return_token_strs else None,
        )
        return json_response(answer)

    @routes.post("/detokenize")
    async def detokenize(request: Request) -> Response:
        body = await bodies.read(request, DetokenizeBody)
        check_vocabulary(body.tokens, text, "tokens")
        return json_response(Detokenized(prompt=text.decode(body.tokens)))

    return routes
