"""LangChain's content blocks <-> neutral blocks, in every spelling that is in use.

A spelling ("shape") is one provider's or one release's way to write a block. The
reader finds the neutral block; the writer writes it back in the same shape. Only
what a shape cannot say is kept beside it, so that base64 data is never kept twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

from langmem_plugin.formats.plain import plain
from langmem_plugin.messages import Block, Json, JsonObject, Media, Other, Reasoning, Text

FRAMEWORK = "langchain"

Content: TypeAlias = str | list[str | dict[Any, Any]]
Layout: TypeAlias = list[Json]
"""How a list of content items was written, item by item.

`"shape"`: the next block in that shape. `["shape", {...}]`: with these fields besides.
`{"as": item}`: the next block, written like this. `{"raw": item}`: no block, because
the item repeats a tool call.
"""

_TOOL_CALL_TYPES = {"tool_call", "tool_use", "function_call", "tool_call_chunk", "invalid_tool_call"}
_KINDS = {"image", "audio", "video", "file"}
_SHAPES = {
    Text: ("text", "str"),
    Reasoning: ("reasoning", "thinking"),
    Media: ("v1", "image_url", "v0", "source", "input_audio", "openai_file"),
    Other: ("given",),
}


def read_content(content: Content, call_ids: set[str | None]) -> tuple[tuple[Block, ...], Layout | None]:
    """The neutral blocks of a message's content, and how they were written.

    Args:
        content: The message's content.
        call_ids: Ids of the message's tool calls; an item that repeats one is no block.

    Returns:
        The blocks, and the layout, which is None if `write_content` needs none.

    Raises:
        InvalidMessage: An item is not plain JSON.
    """
    if isinstance(content, str):
        return ((Text(str(content)),) if content else ()), None
    blocks: list[Block] = []
    layout: Layout = []
    for item in content:
        clean = str(item) if isinstance(item, str) else cast("JsonObject", plain(item, "content", strict=True))
        if isinstance(clean, dict) and _repeats_call(clean, call_ids):
            layout.append({"raw": clean})
            continue
        block = _read(clean)
        blocks.append(block)
        layout.append(_spell(block, clean))
    written = tuple(blocks)
    plain_list = write_content(written, None)
    return written, None if plain_list == content else layout


def write_content(blocks: Sequence[Block], layout: Layout | None) -> Content:
    """A message's content from its blocks; a single text is written as a string without a layout."""
    if layout is None:
        if not blocks:
            return ""
        if len(blocks) == 1 and isinstance(blocks[0], Text):
            return blocks[0].text
        return [item for block in blocks if (item := _write(block, _usual(block))) is not None]
    rest = iter(blocks)
    content: list[str | dict[Any, Any]] = []
    for entry in layout:
        match entry:
            case str():
                item = _write(next(rest), entry)
            case [str() as shape, dict() as more]:
                written = _write(next(rest), shape)
                item = {**written, **more} if isinstance(written, dict) else written
            case {"as": dict() as given}:
                next(rest)
                item = given
            case {"raw": dict() as given}:
                item = given
            case _:
                raise ValueError(entry)
        if item is not None:
            content.append(item)
    return content


def _repeats_call(item: JsonObject, call_ids: set[str | None]) -> bool:
    return item.get("type") in _TOOL_CALL_TYPES and any(
        isinstance(item.get(key), str) and item[key] in call_ids for key in ("id", "call_id")
    )


def _spell(block: Block, item: str | JsonObject) -> Json:
    for shape in _SHAPES[type(block)]:
        written = _write(block, shape)
        if written == item:
            return shape
        if isinstance(written, dict) and isinstance(item, dict) and written.items() <= item.items():
            return [shape, {key: value for key, value in item.items() if key not in written}]
    return {"as": item}


def _usual(block: Block) -> str:
    match block:
        case Media(kind="image", detail=str()):
            return "image_url"
        case Reasoning(signature=str()):
            return "thinking"
        case _:
            return _SHAPES[type(block)][0]


def _read(item: str | JsonObject) -> Block:
    if isinstance(item, str):
        return Text(item)
    match item:
        case {"type": "text", "text": str() as text}:
            return Text(text)
        case {"type": "text-plain", "text": str() as text}:
            return Text(text, attached=True)
        case {"type": "refusal", "refusal": str() as text}:
            return Text(text)
        case {"type": "thinking", "thinking": str() as text}:
            return Reasoning(text=text, signature=_text(item.get("signature")))
        case {"type": "reasoning", "reasoning": str() as text}:
            extras = item.get("extras")
            return Reasoning(text=text, signature=_text(extras.get("signature")) if isinstance(extras, dict) else None)
    return _read_media(item) or Other(framework=FRAMEWORK, data=item)


def _read_media(item: JsonObject) -> Media | None:
    kind: Any = item.get("type")
    match item:
        case {"type": "image_url", "image_url": {"url": str() as url, **more}}:
            data, mime = _from_data_url(url)
            return Media(
                kind="image",
                url=None if data else url,
                data=data,
                mime_type=mime,
                detail=_text(more.get("detail")),
            )
        case {"type": "input_audio", "input_audio": {"data": str() as data, "format": str() as form}}:
            return Media(kind="audio", data=data, mime_type=f"audio/{form}")
        case {"type": "file", "file": {"file_data": str() as url, **more}}:
            data, mime = _from_data_url(url)
            return Media(kind="file", data=data, mime_type=mime, name=_text(more.get("filename"))) if data else None
        case {"type": "image" | "document", "source": {"type": "base64", "data": str() as data, **more}}:
            return Media(
                kind="image" if kind == "image" else "file", data=data, mime_type=_text(more.get("media_type"))
            )
        case {"type": "image" | "document", "source": {"type": "url", "url": str() as url}}:
            return Media(kind="image" if kind == "image" else "file", url=url)
        case {"source_type": "url" | "base64" as source}:
            held = item.get("url" if source == "url" else "data")
        case _:
            held = item.get("url") or item.get("base64")
            source = "url" if item.get("url") else "base64"
    if kind not in _KINDS or not isinstance(held, str):
        return None
    extras = item.get("extras")
    return Media(
        kind=kind,
        url=held if source == "url" else None,
        data=held if source == "base64" else None,
        mime_type=_text(item.get("mime_type")),
        name=_text(extras.get("filename")) if isinstance(extras, dict) else None,
    )


def _write(block: Block, shape: str) -> str | dict[Any, Any] | None:
    """The block in that shape; None if the shape cannot say it, or it says nothing to a model."""
    match block:
        case Text(text=text):
            return text if shape == "str" else {"type": "text", "text": text}
        case Reasoning(text=text, signature=signature):
            if shape == "thinking":
                return _without_none({"type": "thinking", "thinking": text, "signature": signature})
            extras = {"signature": signature} if signature is not None else None
            return _without_none({"type": "reasoning", "reasoning": text, "extras": extras})
        case Media():
            return _write_media(block, shape)
        case Other(framework="langchain", data=data):
            return data
        case Other(data=data):
            # Another framework's block: its text is all that every provider of ours can read.
            text = "\n".join(_texts(data))
            return {"type": "text", "text": text} if text else None


def _write_media(media: Media, shape: str) -> dict[Any, Any] | None:
    address = media.url or (f"data:{media.mime_type};base64,{media.data}" if media.mime_type else None)
    match shape:
        case "v1":
            extras = {"filename": media.name} if media.name is not None else None
            return _without_none(
                {
                    "type": media.kind,
                    "url": media.url,
                    "base64": media.data,
                    "mime_type": media.mime_type,
                    "extras": extras,
                }
            )
        case "image_url" if media.kind == "image" and address:
            return {"type": "image_url", "image_url": _without_none({"url": address, "detail": media.detail})}
        case "v0":
            held = {"source_type": "url", "url": media.url} if media.url else {"source_type": "base64"}
            return _without_none({"type": media.kind, **held, "data": media.data, "mime_type": media.mime_type})
        case "source" if media.kind in {"image", "file"}:
            source = {"type": "url", "url": media.url} if media.url else {"type": "base64", "data": media.data}
            kind = "image" if media.kind == "image" else "document"
            return {"type": kind, "source": _without_none({**source, "media_type": media.mime_type})}
        case "input_audio" if media.kind == "audio" and media.data and (media.mime_type or "").startswith("audio/"):
            form = (media.mime_type or "").removeprefix("audio/")
            return {"type": "input_audio", "input_audio": {"data": media.data, "format": form}}
        case "openai_file" if media.kind == "file" and media.data and address:
            return {"type": "file", "file": _without_none({"file_data": address, "filename": media.name})}
    return _write_media(media, "v1") if shape == "image_url" else None


def _from_data_url(url: str) -> tuple[str | None, str | None]:
    """The base64 data and MIME type of a data: address; (None, None) of any other."""
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64") or not data:
        return None, None
    return data, head.removeprefix("data:").removesuffix(";base64") or None


def _texts(value: Json) -> list[str]:
    match value:
        case {"text": str() as text}:
            return [text]
        case dict():
            return [text for item in value.values() for text in _texts(item)]
        case list():
            return [text for item in value for text in _texts(item)]
    return []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}
