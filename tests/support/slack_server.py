#!/usr/bin/env python3
"""A stand-in for Slack's incoming webhooks and for the part of its Web API that posts, on loopback.

It answers as hooks.slack.com does: `ok` for what Slack would show, Slack's own words for what it refuses, 429 with
Retry-After beyond one message a second. Everything that arrives is kept in a journal; `--render` prints each message as a
person would see it. A mention that would wake a whole channel is printed as MENTION, so that a breakout is noticed.

  slack_server.py --port 0 --render       prints its URL first; messages go to URL/services/T…/B…/…

For tests, over HTTP or as a class in their own process:
  GET    /_journal[?since=N]   every request to a webhook, in order, as JSON; but for
  GET    /_probes              those that are no JSON: somebody asks whether the webhook is there
  DELETE /_journal             forgets them
  POST   /_control             {"answers": [{"mode": "answer", "status": 503, "body": "…", "times": 3}, …], "hook": PATH}
                               {"revoke": PATH, "status": 404, "body": "no_service"}, {"restore": PATH}
                               {"burst": 25, "rate": 1.0}
  DELETE /_control             no scripted answers, no revoked hooks, a full bucket

The Web API is at URL/api (api_url of a slack_app sink): auth.test, users.conversations, conversations.info, .history and .replies,
chat.postMessage, chat.update and chat.getPermalink, for one bot's token and the channels of SlackServer.api. Its calls are no part
of the journal: GET /_api has them, and what the channels show now. Scripted answers are for a method by its path, /api/chat.update.

Modes of a scripted answer: answer (status, body, headers, delay), never (reads, never answers), stall (does not even read),
drip (a byte every `interval` seconds), drop (the message is taken, the answer lost), half (half an answer), close, reset.
A scripted answer is for messages; with {"probe": true}, for what is no JSON.
"""
import argparse
import email.utils
import http.server
import json
import math
import re
import select
import shutil
import socket
import struct
import sys
import textwrap
import threading
import time
import unicodedata
import urllib.parse

HOOK = re.compile(r"/services/T\w+/B\w+/\w+")
MAX_BLOCKS = 50
MAX_TEXT = 40_000  # longer is cut by Slack, not refused


# --- what Slack refuses -------------------------------------------------------------------------------------------------

class Refused(Exception):
    """400 with one of Slack's words; `why` is for whoever reads the journal."""

    def __init__(self, word, why):
        super().__init__(f"{word}: {why}")
        self.word, self.why = word, why


def _require(condition, why, word="invalid_blocks"):
    if not condition:
        raise Refused(word, why)


def _keys(what, value, required, optional=()):
    _require(isinstance(value, dict), f"{what} is no object", "invalid_blocks_format")
    for key in required:
        _require(key in value, f"{what}: missing {key}")
    for key in value:
        _require(key in required or key in optional, f"{what}: invalid additional property {key}")


def _string(what, value, most, least=1):
    _require(isinstance(value, str), f"{what} is no string")
    _require(least <= len(value) <= most, f"{what} has {len(value)} characters; {least} to {most} are allowed")


def _text_object(what, value, most, kinds=("mrkdwn", "plain_text")):
    _keys(what, value, ("type", "text"), ("emoji", "verbatim"))
    _require(value["type"] in kinds, f"{what}: type {value['type']!r} is not one of {kinds}")
    _require("emoji" not in value or value["type"] == "plain_text", f"{what}: emoji is for plain_text")
    _require("verbatim" not in value or value["type"] == "mrkdwn", f"{what}: verbatim is for mrkdwn")
    for key in ("emoji", "verbatim"):
        _require(isinstance(value.get(key, True), bool), f"{what}: {key} is no boolean")
    _string(f"{what}.text", value["text"], most)


def _image(what, value, optional=()):
    _keys(what, value, ("type", "alt_text"), ("image_url", "slack_file", *optional))
    _require(("image_url" in value) != ("slack_file" in value), f"{what}: image_url or slack_file")
    if "image_url" in value:
        _string(f"{what}.image_url", value["image_url"], 3000)
    _string(f"{what}.alt_text", value["alt_text"], 2000)


def _element(what, value):
    _require(isinstance(value, dict) and "type" in value, f"{what} has no type", "invalid_blocks_format")
    if value["type"] == "image":
        return _image(what, value)
    _require(value["type"] == "button", f"{what}: this stand-in knows button and image, not {value['type']!r}")
    _keys(what, value, ("type", "text"), ("action_id", "url", "value", "style", "confirm", "accessibility_label"))
    _text_object(f"{what}.text", value["text"], 75, ("plain_text",))
    for key, most in (("action_id", 255), ("url", 3000), ("value", 2000), ("accessibility_label", 75)):
        if key in value:
            _string(f"{what}.{key}", value[key], most)
    if "url" in value:
        _require(re.match(r"[a-z][a-z0-9+.-]*:", value["url"]), f"{what}.url is no URL")
    _require(value.get("style", "primary") in ("primary", "danger"), f"{what}: style {value.get('style')!r}")


_INLINE = {  # type: (required, optional)
    "text": (("text",), ("style",)),
    "link": (("url",), ("text", "style", "unsafe")),
    "emoji": (("name",), ("unicode", "skin_tone", "style")),
    "user": (("user_id",), ("style",)),
    "usergroup": (("usergroup_id",), ("style",)),
    "channel": (("channel_id",), ("style",)),
    "broadcast": (("range",), ("style",)),
    "date": (("timestamp", "format"), ("url", "fallback", "style")),
    "color": (("value",), ()),
}


def _inline(what, value, kinds):
    _require(isinstance(value, dict), f"{what} is no object", "invalid_blocks_format")
    kind = value.get("type")
    _require(kind in kinds, f"{what}: type {kind!r} is not one of {sorted(kinds)}")
    required, optional = _INLINE[kind]
    _keys(what, value, ("type", *required), optional)
    if kind == "text" or "text" in value:
        _string(f"{what}.text", value["text"], MAX_TEXT)
    if kind == "link":
        _string(f"{what}.url", value["url"], 3000)
    if kind == "broadcast":
        _require(value["range"] in ("here", "channel", "everyone"), f"{what}: range {value['range']!r}")
    style = value.get("style", {})
    _require(isinstance(style, dict), f"{what}.style is no object")
    for key, flag in style.items():
        allowed = ("bold", "italic", "strike", "code", "underline", "highlight", "client_highlight", "unlink")
        _require(key in allowed and isinstance(flag, bool), f"{what}.style: {key}")


def _rich(what, value):
    _require(isinstance(value, dict), f"{what} is no object", "invalid_blocks_format")
    kind = value.get("type")
    _require(kind in ("rich_text_section", "rich_text_preformatted", "rich_text_quote", "rich_text_list"),
             f"{what}: type {kind!r}")
    optional = {"rich_text_preformatted": ("border", "language"), "rich_text_quote": ("border",),
                "rich_text_list": ("style", "indent", "offset", "border")}.get(kind, ())
    _keys(what, value, ("type", "elements"), optional)
    _require(isinstance(value["elements"], list), f"{what}.elements is no list")
    _require(kind == "rich_text_section" or value["elements"], f"{what} is empty")
    for i, inner in enumerate(value["elements"]):
        place = f"{what}.elements[{i}]"
        if kind == "rich_text_list":
            _require(isinstance(inner, dict) and inner.get("type") == "rich_text_section", f"{place}: no section")
            _rich(place, inner)
        else:
            _inline(place, inner, {"text", "link"} if kind == "rich_text_preformatted" else set(_INLINE))
    if kind == "rich_text_list":
        _require(value.get("style") in ("bullet", "ordered"), f"{what}: style {value.get('style')!r}")


def _block(what, value):
    _require(isinstance(value, dict), f"{what} is no object", "invalid_blocks_format")
    kind = value.get("type")
    if "block_id" in value:
        _string(f"{what}.block_id", value["block_id"], 255)
    if kind == "divider":
        _keys(what, value, ("type",), ("block_id",))
    elif kind == "header":
        _keys(what, value, ("type", "text"), ("block_id", "level"))
        _text_object(f"{what}.text", value["text"], 150, ("plain_text",))
    elif kind == "section":
        _keys(what, value, ("type",), ("block_id", "text", "fields", "accessory", "expand"))
        _require("text" in value or "fields" in value, f"{what}: text or fields")
        if "text" in value:
            _text_object(f"{what}.text", value["text"], 3000)
        if "fields" in value:
            _require(isinstance(value["fields"], list) and 1 <= len(value["fields"]) <= 10, f"{what}: 1 to 10 fields")
            for i, field in enumerate(value["fields"]):
                _text_object(f"{what}.fields[{i}]", field, 2000)
        if "accessory" in value:
            _element(f"{what}.accessory", value["accessory"])
    elif kind == "context":
        _keys(what, value, ("type", "elements"), ("block_id",))
        _require(isinstance(value["elements"], list) and 1 <= len(value["elements"]) <= 10, f"{what}: 1 to 10 elements")
        for i, inner in enumerate(value["elements"]):
            place = f"{what}.elements[{i}]"
            if isinstance(inner, dict) and inner.get("type") == "image":
                _image(place, inner)
            else:
                _text_object(place, inner, 3000)
    elif kind == "actions":
        _keys(what, value, ("type", "elements"), ("block_id",))
        _require(isinstance(value["elements"], list) and 1 <= len(value["elements"]) <= 25, f"{what}: 1 to 25 elements")
        for i, inner in enumerate(value["elements"]):
            _element(f"{what}.elements[{i}]", inner)
    elif kind == "image":
        _image(what, value, ("block_id", "title"))
        if "title" in value:
            _text_object(f"{what}.title", value["title"], 2000, ("plain_text",))
    elif kind == "rich_text":
        _keys(what, value, ("type", "elements"), ("block_id",))
        _require(isinstance(value["elements"], list) and value["elements"], f"{what}.elements is empty")
        for i, inner in enumerate(value["elements"]):
            _rich(f"{what}.elements[{i}]", inner)
    elif kind == "markdown":
        _keys(what, value, ("type", "text"), ("block_id",))
        _string(f"{what}.text", value["text"], 12_000)
    else:
        _require(False, f"{what}: this stand-in knows no block of type {kind!r}")


def _blocks(what, value):
    _require(isinstance(value, list), f"{what} is no list", "invalid_blocks_format")
    _require(len(value) <= MAX_BLOCKS, f"{len(value)} {what}; {MAX_BLOCKS} are allowed")
    for i, block in enumerate(value):
        _block(f"{what}[{i}]", block)
    ids = [block["block_id"] for block in value if "block_id" in block]
    _require(len(ids) == len(set(ids)), f"{what}: a block_id twice")
    markdown = sum(len(block["text"]) for block in value if block["type"] == "markdown")
    _require(markdown <= 12_000, f"{what}: markdown of {markdown} characters in all")


def validate(payload):
    """Raises Refused for what Slack would not take."""
    _require(isinstance(payload, dict), "the payload is no object", "invalid_payload")
    text, blocks, attachments = (payload.get(key) for key in ("text", "blocks", "attachments"))
    _require(text is None or isinstance(text, str), "text is no string", "invalid_payload")
    if blocks is not None:
        _blocks("blocks", blocks)
    if attachments is not None:
        _require(isinstance(attachments, list), "attachments is no list", "invalid_attachments")
        _require(len(attachments) <= 100, f"{len(attachments)} attachments", "too_many_attachments")
        for i, attachment in enumerate(attachments):
            _require(isinstance(attachment, dict), f"attachments[{i}] is no object", "invalid_attachments")
            if "blocks" in attachment:
                _blocks(f"attachments[{i}].blocks", attachment["blocks"])
            else:
                _require(attachment.get("text") or attachment.get("fallback") or attachment.get("pretext"),
                         f"attachments[{i}] says nothing", "missing_text_or_fallback_or_attachments")
    _require(text or blocks or attachments, "neither text nor blocks nor attachments", "no_text")


# --- what a person sees -------------------------------------------------------------------------------------------------

EMOJI = {"rotating_light": "🚨", "fire": "🔥", "warning": "⚠️", "white_check_mark": "✅", "heavy_check_mark": "✔️",
         "large_green_circle": "🟢", "red_circle": "🔴", "large_yellow_circle": "🟡", "large_orange_circle": "🟠",
         "large_blue_circle": "🔵", "bell": "🔔", "no_bell": "🔕", "x": "❌", "information_source": "ℹ️",
         "ok_hand": "👌", "green_heart": "💚", "exclamation": "❗", "question": "❓", "mag": "🔍", "repeat": "🔁",
         "hourglass": "⌛", "hourglass_flowing_sand": "⏳", "link": "🔗", "book": "📖", "clock3": "🕒", "skull": "💀"}
ENTITY = re.compile(r"<([^<>\n]*)>")
SHORTCODE = re.compile(r":([a-z0-9_+-]+):")


def _visible(text):
    """Controls and direction marks as words: what is rendered must not act upon the terminal."""
    def one(character):
        if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp"):
            return character
        return character if character in "\u200d\ufe0f" else f"⟦U+{ord(character):04X}⟧"
    return "".join(map(one, text))


def _unescape(text):
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


class Paper:
    """Collects the mentions of a message while it is written out; with or without colour."""

    def __init__(self, colour):
        self.colour = colour
        self.mentions = []

    def ink(self, code, text):
        if not self.colour or not text:
            return text
        return "\n".join(f"\033[{code}m{line}\033[0m" if line else line for line in text.split("\n"))

    def bold(self, text):
        return self.ink("1", text)

    def dim(self, text):
        return self.ink("2", text)

    def mention(self, text):
        self.mentions.append(text)
        return self.ink("1;97;41", f"[MENTION {text}]")

    def link(self, label, url):
        url, label = _visible(_unescape(url)), _visible(_unescape(label))
        if not label or label == url:
            return self.ink("4;34", url)
        return f"{self.ink('4;34', label)} {self.dim('(' + url + ')')}"

    def entity(self, inner):
        head, _, label = inner.partition("|")
        if re.fullmatch(r"!(channel|here|everyone)", head):
            return self.mention("@" + head[1:])
        if head.startswith("!subteam^") or re.match(r"@[UW]\w*", head):
            return self.mention(f"{head} {label}".strip())
        if head.startswith("!date^"):
            return _visible(_unescape(label))
        if head.startswith("#C"):
            return self.ink("4;34", "#" + (label or head[1:]))
        if head.startswith("!"):
            return self.mention(head)
        return self.link(label, head)

    def plain(self, text, emoji=True):
        text = _visible(_unescape(text))
        return SHORTCODE.sub(lambda m: EMOJI.get(m[1], m[0]), text) if emoji else text

    def _styled(self, text):
        out = self.plain(text)
        for mark, code in (("*", "1"), ("_", "3"), ("~", "9")):
            m = re.escape(mark)
            out = re.sub(rf"(?<![\w{m}]){m}(\S(?:[^\n]*?\S)?){m}(?![\w{m}])",
                         lambda found, code=code: self.ink(code, found[1]), out)
        return out

    def _entities(self, text, write):
        """mrkdwn without code: <…> are links and mentions, the rest goes through `write`."""
        out, last = [], 0
        for found in ENTITY.finditer(text):
            out += [write(text[last:found.start()]), self.entity(found[1])]
            last = found.end()
        return "".join(out + [write(text[last:])])

    def mrkdwn(self, text):
        out = []
        for i, part in enumerate(re.split(r"```", text)):
            if i % 2:  # Slack reads <…> in a fence as anywhere else
                body = self._entities(part.strip("\n"), lambda t: self.ink("36", _visible(_unescape(t))))
                out.append(("\n" if out and not out[-1].endswith("\n") else "") + textwrap.indent(body, "  ▏", lambda _: True) + "\n")
                continue
            spans = re.split(r"`([^`\n]+)`", part)
            for j, span in enumerate(spans):
                out.append(self._entities(span, (lambda t: self.ink("36", _visible(_unescape(t)))) if j % 2 else self._styled))
        return "".join(out).strip("\n")

    def text(self, value):
        if value["type"] == "mrkdwn":
            return self.mrkdwn(value["text"])
        return self.plain(value["text"], value.get("emoji", True))

    def inline(self, value):
        kind, style = value["type"], value.get("style", {})
        if kind == "text":
            out = _visible(value["text"])  # rich text is not parsed: what looks like mark-up is text
        elif kind == "link":
            out = self.link(value.get("text", ""), value["url"])
        elif kind == "emoji":
            out = EMOJI.get(value["name"], f":{value['name']}:")
        elif kind == "date":
            out = value.get("fallback", str(value["timestamp"]))
        elif kind == "color":
            out = value["value"]
        elif kind == "channel":
            out = "#" + value["channel_id"]
        else:
            out = self.mention("@" + str(value.get("range") or value.get("user_id") or value.get("usergroup_id")))
        for name, code in (("bold", "1"), ("italic", "3"), ("strike", "9"), ("code", "36")):
            if style.get(name):
                out = self.ink(code, out)
        return out

    def rich(self, value):
        kind = value["type"]
        if kind == "rich_text_list":
            items = (self.rich(item) for item in value["elements"])
            return "\n".join(f"{i + 1}." + " " + item if value["style"] == "ordered" else "• " + item
                             for i, item in enumerate(items))
        body = "".join(self.inline(inner) for inner in value["elements"])
        if kind == "rich_text_preformatted":
            return textwrap.indent(self.ink("36", body.strip("\n")), "  ▏", lambda _: True)
        return textwrap.indent(body, "▏ ", lambda _: True) if kind == "rich_text_quote" else body

    def element(self, value):
        if value["type"] == "button":
            label = "[ " + self.plain(value["text"]["text"]) + " ]"
            return self.link(label, value["url"]) if "url" in value else self.bold(label)
        if value["type"] == "image":
            return f"[image: {_visible(value['alt_text'])}]"
        return self.text(value)

    def block(self, value, width):
        kind = value["type"]
        if kind == "divider":
            return self.dim("─" * min(width, 60))
        if kind == "header":
            return self.bold(self.plain(value["text"]["text"]))
        if kind == "section":
            parts = [self.text(value["text"])] if "text" in value else []
            fields = [self.text(field).split("\n") for field in value.get("fields", [])]
            for left, right in zip(fields[::2], fields[1::2] + [[""]] * (len(fields) % 2)):
                column = max(28, width // 2)
                for i in range(max(len(left), len(right))):
                    a, b = (side[i] if i < len(side) else "" for side in (left, right))
                    parts.append((a + " " * max(2, column - columns(a)) + b).rstrip())
            if "accessory" in value:
                parts.append(self.element(value["accessory"]))
            return "\n".join(parts)
        if kind == "context":
            return self.dim("  ".join(self.element(inner) for inner in value["elements"]))
        if kind == "actions":
            return "  ".join(self.element(inner) for inner in value["elements"])
        if kind == "image":
            return f"[image: {_visible(value['alt_text'])}]"
        if kind == "rich_text":
            return "\n".join(self.rich(inner) for inner in value["elements"])
        return self.plain(value["text"])


def columns(text):
    """How many columns `text` takes on a terminal."""
    text = re.sub(r"\033\[[0-9;]*m", "", text)
    return sum(0 if unicodedata.combining(c) or c in "\u200d\ufe0f" else 2 if unicodedata.east_asian_width(c) in "WF" else 1
               for c in text)


def _wrap(line, width):
    """Breaks a line between words, colours and all; its own indentation is kept."""
    indent = re.match(r"(?:\033\[[0-9;]*m)*[ ▏•]*", line)[0]
    indent = re.sub(r"\033\[[0-9;]*m", "", indent).replace("•", " ")
    out, current = [], ""
    for word in re.split(r"(?<=\S) (?=\S)", line):
        if current and columns(current) + 1 + columns(word) > width:
            out.append(current)
            current = indent + word
        else:
            current = f"{current} {word}" if current else word
    return out + [current]


def render(payload, colour=False, width=78, at=None):
    """The message as Slack would show it, and the mentions in it that would wake people."""
    paper = Paper(colour)
    lines = []
    for block in payload.get("blocks") or []:
        lines.append(paper.block(block, width - 2))
    if not payload.get("blocks") and payload.get("text"):
        lines.append(paper.mrkdwn(payload["text"]) if payload.get("mrkdwn", True) else paper.plain(payload["text"]))
    elif payload.get("text"):  # shown in the phone's notification only, but a mention there wakes all the same
        quiet = Paper(False)
        quiet.mrkdwn(payload["text"])
        if set(quiet.mentions) - set(paper.mentions):
            lines.append(paper.dim("in the notification: ") + paper.mrkdwn(payload["text"]))
    for attachment in payload.get("attachments") or []:
        for block in attachment.get("blocks") or []:
            lines.append(paper.block(block, width - 2))
        if not attachment.get("blocks"):
            title = attachment.get("title")
            lines += [paper.mrkdwn(attachment["pretext"])] if attachment.get("pretext") else []
            lines += [paper.link(title, attachment.get("title_link", title))] if title else []
            lines += [paper.mrkdwn(attachment.get("text") or attachment.get("fallback", ""))]
            for field in attachment.get("fields") or []:
                lines.append(paper.bold(str(field.get("title", ""))) + " " + paper.mrkdwn(str(field.get("value", ""))))
    if payload.get("link_names") or payload.get("parse") == "full":
        for found in re.findall(r"@(?:channel|here|everyone)\b", json.dumps(payload, ensure_ascii=False)):
            lines.append(paper.mention(found))
    colours = [a.get("color") for a in payload.get("attachments") or [] if a.get("color")]
    bar = "┃"
    if colour:
        named = {"good": "#2eb67d", "warning": "#ecb22e", "danger": "#e01e5a"}
        rgb = re.fullmatch(r"#?([0-9a-fA-F]{6})", named.get(colours[0], colours[0]) if colours else "#4a154b")
        r, g, b = bytes.fromhex(rgb[1] if rgb else "4a154b")
        bar = f"\033[38;2;{r};{g};{b}m┃\033[0m"
    stamp = time.strftime("%H:%M:%S", time.localtime(at)) if at is not None else ""
    who = _visible(payload.get("username") or "logbell")
    head = f"{paper.bold(who)} {paper.ink('7', ' APP ') if colour else 'APP'}  {paper.dim(stamp)}".rstrip()
    body = [head] + [piece for part in lines for line in part.split("\n") for piece in _wrap(line, width - 2)]
    return "\n".join(f"{bar} {line}".rstrip() for line in body), paper.mentions


# --- the Web API --------------------------------------------------------------------------------------------------------

TOKEN = "xoxb-123456789012-abcdefghijklSTANDIN"
SCOPES = "chat:write,channels:read,channels:history"


class Failed(Exception):
    """`ok: false` with one of Slack's words."""


class WebApi:
    """One workspace, one bot. Used under its server's lock."""

    def __init__(self, burst=3, rate=1.0):
        self.token, self.scopes = TOKEN, SCOPES
        self.burst, self.rate = burst, rate
        self.channels = {}
        self.calls = []  # {"method", "args", "at", "monotonic", "status", "answer", "mode"}
        self.buckets = {}
        self.last_ts = 0
        self.add_channel("C0STANDIN1", "ops")

    def add_channel(self, channel, name, **facts):
        self.channels[channel] = {"name": name, "is_member": True, "is_archived": False, "is_private": False, **facts,
                                  "messages": []}

    def shown(self, channel="C0STANDIN1"):
        """What a person sees in the channel: its messages, oldest first, without those that stand in threads only."""
        return [m for m in self.channels[channel]["messages"] if m["thread_ts"] is None or m["broadcast"]]

    def thread(self, ts, channel="C0STANDIN1"):
        return [m for m in self.channels[channel]["messages"] if m["thread_ts"] == ts]

    def answer(self, method, headers, body):
        """(status, answer, headers, args) as Slack would answer; what it does to the channels is done."""
        kind = headers.get("Content-Type", "").split(";")[0].strip()
        args = dict(urllib.parse.parse_qsl(body.decode(errors="replace"))) if kind.endswith("urlencoded") else {}
        if kind == "application/json" and method in ("chat.postMessage", "chat.update"):  # the others read forms only
            try:
                args = json.loads(body.decode())
            except ValueError:
                return 200, {"ok": False, "error": "invalid_json"}, {}, {}
        token = headers.get("Authorization", "")
        if token != f"Bearer {self.token}":
            return 200, {"ok": False, "error": "invalid_auth" if token else "not_authed"}, {}, args
        more = {"X-OAuth-Scopes": self.scopes}
        try:
            wait = self.wait(method, args)
            if wait:
                return 429, {"ok": False, "error": "ratelimited"}, {**more, "Retry-After": str(wait)}, args
            handler = self.METHODS.get(method)
            if handler is None:
                raise Failed("unknown_method")
            return 200, {"ok": True, **handler(self, args)}, more, args
        except Failed as failed:
            return 200, {"ok": False, "error": str(failed)}, more, args
        except Refused as refused:
            return 200, {"ok": False, "error": refused.word, "response_metadata": {"messages": [f"[ERROR] {refused.why}"]}}, more, args

    def wait(self, method, args):
        if method != "chat.postMessage":
            return 0
        return self.buckets.setdefault(args.get("channel"), Bucket(self.burst, self.rate)).take()

    def need(self, *scopes):
        if not set(scopes) & set(self.scopes.split(",")):
            raise Failed("missing_scope")

    def find(self, args, by_name=False):
        wanted = args.get("channel", "")
        for channel, facts in self.channels.items():
            if wanted == channel or (by_name and wanted == "#" + facts["name"]):
                return channel, facts
        raise Failed("channel_not_found")

    def message(self, facts, ts):
        return next((m for m in facts["messages"] if m["ts"] == ts), None)

    def check(self, args):
        if args.get("text") is None and not args.get("blocks"):
            raise Failed("no_text")
        validate({key: args[key] for key in ("text", "blocks") if args.get(key)} or {"text": " "})

    def auth_test(self, _):
        return {"url": "https://standin.slack.com/", "team_id": "T0STANDIN", "bot_id": "B0STANDIN", "user_id": "U0STANDIN"}

    def users_conversations(self, args):
        self.need("channels:read", "groups:read")
        mine = [{"id": i, "name": c["name"], "is_archived": c["is_archived"], "is_private": c["is_private"]}
                for i, c in self.channels.items() if c["is_member"]]
        return self.page("channels", mine, args)

    def conversations_info(self, args):
        self.need("channels:read", "groups:read")
        channel, facts = self.find(args)
        return {"channel": {"id": channel, **{k: v for k, v in facts.items() if k != "messages"}}}

    def page(self, name, items, args):
        begin, limit = int(args.get("cursor") or 0), int(args.get("limit", 100))
        more = begin + limit < len(items)
        return {name: items[begin:begin + limit], "has_more": more,
                "response_metadata": {"next_cursor": str(begin + limit) if more else ""}}

    def listed(self, messages, args):
        return [{"type": "message", "text": m["text"], "ts": m["ts"], "blocks": m["blocks"],
                 **({"metadata": m["metadata"]} if args.get("include_all_metadata") == "true" and m["metadata"] else {})}
                for m in messages if float(m["ts"]) > float(args.get("oldest") or 0)]

    def conversations_history(self, args):
        self.need("channels:history", "groups:history")
        channel, facts = self.find(args)
        if not facts["is_member"]:
            raise Failed("not_in_channel")
        return self.page("messages", self.listed(reversed(self.shown(channel)), args), args)

    def conversations_replies(self, args):
        self.need("channels:history", "groups:history")
        channel, facts = self.find(args)
        first = self.message(facts, args.get("ts"))
        if first is None:
            raise Failed("thread_not_found")
        return self.page("messages", self.listed([first, *self.thread(first["ts"], channel)], args), args)

    def post(self, args):
        self.need("chat:write")
        channel, facts = self.find(args, by_name=True)
        if facts["is_archived"]:
            raise Failed("is_archived")
        if not facts["is_member"] and (facts["is_private"] or "chat:write.public" not in self.scopes.split(",")):
            raise Failed("not_in_channel")
        thread = args.get("thread_ts")
        if thread and self.message(facts, thread) is None:
            raise Failed("thread_not_found")
        self.check(args)
        self.last_ts = max(self.last_ts + 1, int(time.time() * 1_000_000))
        message = {"ts": f"{self.last_ts // 1_000_000}.{self.last_ts % 1_000_000:06d}", "text": args.get("text", ""),
                   "blocks": args.get("blocks") or [], "metadata": args.get("metadata"), "thread_ts": thread,
                   "broadcast": bool(args.get("reply_broadcast")), "updates": 0}
        facts["messages"].append(message)
        return {"channel": channel, "ts": message["ts"], "message": {"text": message["text"]}}

    def update(self, args):
        self.need("chat:write")
        channel, facts = self.find(args)
        message = self.message(facts, args.get("ts"))
        if message is None:
            raise Failed("message_not_found")
        self.check(args)
        # What is not named stays as it was.
        message.update({key: args[key] for key in ("text", "blocks", "metadata") if key in args}, updates=message["updates"] + 1)
        return {"channel": channel, "ts": message["ts"], "text": message["text"]}

    def permalink(self, args):
        channel, facts = self.find(args)
        if self.message(facts, args.get("message_ts")) is None:
            raise Failed("message_not_found")
        return {"channel": channel,
                "permalink": f"https://standin.slack.com/archives/{channel}/p{args['message_ts'].replace('.', '')}"}

    METHODS = {"auth.test": auth_test, "users.conversations": users_conversations, "conversations.info": conversations_info,
               "conversations.history": conversations_history, "conversations.replies": conversations_replies,
               "chat.postMessage": post, "chat.update": update, "chat.getPermalink": permalink}


# --- the server ---------------------------------------------------------------------------------------------------------

class Bucket:
    """Tokens of one webhook: `burst` at once, `rate` a second."""

    def __init__(self, burst, rate):
        self.burst, self.rate = burst, rate
        self.tokens, self.at = float(burst), time.monotonic()

    def take(self):
        """0 if there was one, else the seconds until there is."""
        now = time.monotonic()
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens >= 1:
            self.tokens -= 1
            return 0
        return math.ceil((1 - self.tokens) / self.rate) if self.rate > 0 else 30


class SlackServer:
    """Thread-safe. Listens from construction on, serves from start() (or serve_forever()) to close()."""

    def __init__(self, port=0, burst=25, rate=1.0, hooks=None, on_message=None):
        self.hooks = hooks  # None: every path of Slack's shape
        self.burst, self.rate = burst, rate
        self.on_message = on_message
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.journal = []
        self.probes = []
        self.scripts = []  # of {"hook": …, answer}
        self.revoked = {}  # path -> (status, body)
        self.buckets = {}
        self.not_before = {}  # path -> monotonic time that a 429 asked to wait for
        self.api = WebApi()
        self.stopping = threading.Event()
        owner = self

        class Handler(_Handler):
            server_owner = owner

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, request, client_address):
                pass  # a client that went away; the journal says what arrived

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = None

    def hook(self, name="OPS"):
        return f"{self.url}/services/TSTANDIN/B{name}/abcdefghijklmnop{name}"

    @property
    def api_url(self):
        return self.url + "/api"

    def calls(self, *methods):
        """What the Web API was asked for, in order."""
        with self.lock:
            return [call for call in self.api.calls if not methods or call["method"] in methods]

    def start(self):
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()
        return self

    def serve_forever(self):
        self.server.serve_forever(poll_interval=0.05)

    def close(self):
        self.stopping.set()
        if self.thread:
            self.server.shutdown()
            self.thread.join()
        self.server.server_close()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    # For tests in the same process; over HTTP the same through /_control and /_journal.

    def script(self, *answers, hook=None):
        with self.lock:
            self.scripts += [{"times": 1, **answer, "hook": hook and urllib.parse.urlsplit(hook).path} for answer in answers]

    def revoke(self, hook, status=404, body="no_service"):
        with self.lock:
            self.revoked[urllib.parse.urlsplit(hook).path] = (status, body)

    def restore(self, hook):
        with self.lock:
            self.revoked.pop(urllib.parse.urlsplit(hook).path, None)

    def limit(self, burst, rate):
        with self.lock:
            self.burst, self.rate, self.buckets = burst, rate, {}

    def reset(self):
        with self.lock:
            self.scripts, self.revoked, self.buckets, self.not_before = [], {}, {}, {}

    def entries(self, hook=None, delivered=None):
        path = hook and urllib.parse.urlsplit(hook).path
        with self.lock:
            return [e for e in self.journal
                    if (path is None or e["path"] == path) and (delivered is None or e["delivered"] == delivered)]

    def messages(self, hook=None):
        return self.entries(hook, delivered=True)

    def control(self, wanted):
        if not isinstance(wanted, dict):
            raise ValueError("expected an object")
        if "answers" in wanted:
            self.script(*wanted["answers"], hook=wanted.get("hook"))
        if "revoke" in wanted:
            self.revoke(wanted["revoke"], wanted.get("status", 404), wanted.get("body", "no_service"))
        if "restore" in wanted:
            self.restore(wanted["restore"])
        if "burst" in wanted or "rate" in wanted:
            self.limit(wanted.get("burst", self.burst), wanted.get("rate", self.rate))

    # For the handler.

    def next_script(self, path, probe=False):
        with self.lock:
            for i, answer in enumerate(self.scripts):
                if answer["hook"] in (None, path) and bool(answer.get("probe")) == probe:
                    if answer["times"] > 0:
                        answer["times"] -= 1
                        if answer["times"] == 0:
                            del self.scripts[i]
                    return answer  # a negative number: for ever
        return None

    def stalls(self, path):
        with self.lock:
            return any(answer.get("mode") == "stall" for answer in self.scripts if answer["hook"] in (None, path))

    def judge(self, path, content_type, body):
        """(status, body, headers, payload or None, why) as Slack would answer."""
        with self.lock:
            if path in self.revoked:
                return (*self.revoked[path], {}, None, "revoked")
            known = path in self.hooks if self.hooks is not None else HOOK.fullmatch(path)
            if not known:
                return 404, "no_service", {}, None, "no such webhook"
            bucket = self.buckets.setdefault(path, Bucket(self.burst, self.rate))
            wait = bucket.take()
            if wait:
                self.not_before[path] = time.monotonic() + wait
                answer = json.dumps({"retry_after": wait, "ok": False, "error": "rate_limited"})
                return 429, answer, {"Retry-After": str(wait), "Content-Type": "application/json"}, None, "rate limited"
        try:
            if content_type.startswith("application/x-www-form-urlencoded"):
                body = urllib.parse.parse_qs(body.decode(), strict_parsing=True)["payload"][0].encode()
            payload = json.loads(body.decode())
        except (ValueError, KeyError):
            return 400, "invalid_payload", {}, None, "no JSON"
        try:
            validate(payload)
        except Refused as refused:
            return 400, refused.word, {}, payload, str(refused)
        return 200, "ok", {}, payload, ""

    def is_early(self, path, now):
        """Whether the last 429 asked to wait for longer."""
        with self.lock:
            return now < self.not_before.get(path, 0)

    def ask_to_wait(self, path, retry_after):
        try:
            seconds = float(retry_after)
        except ValueError:
            seconds = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
        with self.lock:
            self.not_before[path] = time.monotonic() + seconds

    def call(self, method, headers, body, script):
        """What the Web API answers, once it has done it: (status, text, headers)."""
        mode = script.get("mode", "answer") if script else None
        with self.changed:
            if mode in ("never", "close", "reset") or (script and "status" in script):
                args = body.decode(errors="replace")
                status, answer, more = (script or {}).get("status"), script.get("body", ""), script.get("headers", {})
            else:
                status, answer, more, args = self.api.answer(method, headers, body)
                answer = json.dumps(answer)
                more = {"Content-Type": "application/json; charset=utf-8", **more}
            self.api.calls.append({"method": method, "args": args, "at": time.time(), "monotonic": time.monotonic(),
                                   "status": status, "answer": answer, "mode": mode})
            self.changed.notify_all()
        return status, answer, more

    def record(self, entry):
        with self.changed:
            journal = self.probes if entry["probe"] else self.journal
            entry["n"] = len(journal)
            if entry["delivered"]:
                entry["rendered"], entry["mentions"] = render(entry["payload"], at=entry["at"])
            journal.append(entry)
            self.changed.notify_all()
        if entry["delivered"] and self.on_message:
            self.on_message(entry)


def is_no_json(content_type, body):
    if content_type.startswith("application/x-www-form-urlencoded"):
        return False
    try:
        json.loads(body.decode())
    except ValueError:
        return True
    return False


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "slack-stand-in", ""
    server_owner = None
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status, body, headers=None):
        data = body if isinstance(body, bytes) else body.encode()
        headers = {"Content-Type": "text/html", **(headers or {})}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def own(self):
        """Journal and control; True if this was for them."""
        owner, url = self.server_owner, urllib.parse.urlsplit(self.path)
        if url.path == "/_journal" and self.command == "GET":
            since = int(urllib.parse.parse_qs(url.query).get("since", ["0"])[0])
            self.answer(200, json.dumps([e for e in owner.entries() if e["n"] >= since]), {"Content-Type": "application/json"})
        elif url.path == "/_probes" and self.command == "GET":
            with owner.lock:
                self.answer(200, json.dumps(owner.probes), {"Content-Type": "application/json"})
        elif url.path == "/_api" and self.command == "GET":
            with owner.lock:
                self.answer(200, json.dumps({"calls": owner.api.calls, "channels": owner.api.channels}), {"Content-Type": "application/json"})
        elif url.path == "/_journal" and self.command == "DELETE":
            with owner.lock:
                owner.journal.clear()
                owner.probes.clear()
            self.answer(200, "ok")
        elif url.path == "/_control" and self.command == "DELETE":
            owner.reset()
            self.answer(200, "ok")
        elif url.path == "/_control" and self.command == "POST":
            try:
                owner.control(json.loads(self.body()))
                self.answer(200, "ok")
            except (ValueError, TypeError, AttributeError) as error:
                self.answer(400, f"control: {error}")
        else:
            return False
        return True

    def handle_one(self):
        if self.own():
            return
        owner, path = self.server_owner, urllib.parse.urlsplit(self.path).path
        if path.startswith("/api/"):
            body, script = self.body(), owner.next_script(path)
            status, text, headers = owner.call(path[len("/api/"):], self.headers, body, script)
            return self.answer_as(script, status, text, headers)
        # Slack's answer to what is no JSON is how a webhook is asked whether it is there: no message, and none's script.
        body, probe = None, False
        if not owner.stalls(path):
            body = self.body()
            probe = self.command == "POST" and is_no_json(self.headers.get("Content-Type", ""), body)
        script = owner.next_script(path, probe)
        mode = script.get("mode", "answer") if script else None
        entry = {"path": path, "method": self.command, "at": time.time(), "monotonic": time.monotonic(), "payload": None,
                 "delivered": False, "status": None, "answer": None, "why": "", "mode": mode, "raw": None, "early": False,
                 "headers": {name.lower(): value for name, value in self.headers.items()}, "rendered": None, "mentions": [],
                 "probe": probe}
        if mode == "stall":
            owner.record(entry)
            return self.hold()
        if body is None:
            body = self.body()
        entry["raw"] = body.decode(errors="replace")
        entry["at"], entry["monotonic"] = time.time(), time.monotonic()
        entry["early"] = owner.is_early(path, entry["monotonic"])
        if self.command != "POST":
            owner.record(dict(entry, status=405, why="webhooks take POST"))
            return self.answer(405, "")
        status, text, headers, payload, why = owner.judge(path, self.headers.get("Content-Type", ""), body)
        if script and "status" in script:  # what Slack would have said does not matter
            status, text, headers, why = script["status"], script.get("body", ""), script.get("headers", {}), "scripted"
            if status == 429 and "Retry-After" in headers:
                owner.ask_to_wait(path, str(headers["Retry-After"]))
        delivered = status == 200 and payload is not None and why in ("", "scripted") and mode not in ("never", "close", "reset")
        if delivered and why == "scripted":
            delivered = script.get("effect", True)
        entry.update(payload=payload, status=status, answer=text, why=why, delivered=delivered)
        if mode in ("never", "close", "reset", "drop"):
            entry["status"] = entry["answer"] = None
        owner.record(entry)
        self.answer_as(script, status, text, headers)

    def answer_as(self, script, status, text, headers):
        """The answer, in the script's mode."""
        owner, mode = self.server_owner, script.get("mode", "answer") if script else None
        if script and script.get("delay"):
            owner.stopping.wait(script["delay"])
        if mode == "never":
            return self.hold()
        if mode in ("close", "drop"):
            self.close_connection = True
            return
        if mode == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        if mode in ("drip", "half"):
            data = text if isinstance(text, bytes) else text.encode()
            whole = b"HTTP/1.1 %d Scripted\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (status, len(data), data)
            self.close_connection = True
            if mode == "half":
                self.wfile.write(whole[:-max(1, len(data) // 2)])
                return
            for i in range(len(whole)):
                self.wfile.write(whole[i:i + 1])
                if owner.stopping.wait(script.get("interval", 1.0)):
                    return
            return
        self.answer(status, text, headers)

    def hold(self):
        """Until the client gives up or the server stops."""
        self.close_connection = True
        while not self.server_owner.stopping.is_set():
            readable, _, _ = select.select([self.connection], [], [], 0.1)
            if readable and not self.connection.recv(65536):
                return

    do_GET = do_POST = do_DELETE = do_PUT = do_HEAD = handle_one


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8060, help="0 takes a free one; it is printed")
    parser.add_argument("--render", action="store_true", help="print each message as a person would see it")
    parser.add_argument("--color", choices=("auto", "always", "never"), default="auto")
    parser.add_argument("--burst", type=int, default=25)
    parser.add_argument("--rate", type=float, default=1.0, help="messages a second and webhook beyond the burst")
    options = parser.parse_args()
    colour = options.color == "always" or (options.color == "auto" and sys.stdout.isatty())
    width = max(40, min(100, shutil.get_terminal_size((80, 24)).columns - 2))

    def show(entry):
        print("\n" + render(entry["payload"], colour, width, entry["at"])[0], flush=True)

    server = SlackServer(options.port, options.burst, options.rate, on_message=show if options.render else None)
    print(f"Slack stand-in on {server.url}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
