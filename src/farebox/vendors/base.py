"""What a vendor is: a table of its quirks over defaults that are plain OpenAI.

Preparing a request and reading a refusal are here; sending is upstream's, events are dialects'.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import ClassVar, Final

from farebox import __version__
from farebox.core.call import Call, Headers
from farebox.core.channel import Channel, ChannelOptions
from farebox.core.ports import UpstreamHead, UpstreamRequest
from farebox.dialects.interpreter import Endings
from farebox.errors import BadRequest, UpstreamRefused
from farebox.vendors import messages, refusals, remembered, responses
from farebox.vendors.apart import keep_apart, keep_messages_apart
from farebox.vendors.body import (
    DEVELOPER_TO_SYSTEM,
    Body,
    MessageEdit,
    ask_for_usage,
    edit_messages,
    json_schema_to_object,
)
from farebox.vendors.remembered import Prepared
from farebox.vendors.thinking import fit_effort

_CHAT_PATH = "/chat/completions"
_RESPONSES_PATH = "/responses"
_PATHS = (_CHAT_PATH, _RESPONSES_PATH, messages.PATH)
_USER_AGENT = f"farebox/{__version__}".encode()
_CAP_FIELDS = ("max_tokens", "max_completion_tokens")
# Other names, of servers that one may run oneself, for what is held: llama.cpp's for the cap and
# for `n`, and how many answers vLLM chooses from. They would count before ours.
MORE_THAN_HELD = ("n_predict", "n_cmpl", "best_of")
_NO_CODES: Final[Mapping[str, refusals.Kind]] = {}
_NO_NAMES: Final[Mapping[str, str]] = {}


class Vendor:
    """A kind of upstream. A subclass sets what differs; most need no method."""

    name: ClassVar[str] = ""  # as in the catalogue
    title: ClassVar[str] = ""  # for people
    base_url: ClassVar[str] = ""  # default of a channel; no slash at its end
    env_name: ClassVar[str | None] = None  # of the environment variable that holds a key
    needs_key: ClassVar[bool] = True
    speaks: ClassVar[tuple[str, ...]] = ("chat",)

    # What it takes.
    max_tokens_field: ClassVar[str] = "max_completion_tokens"
    developer_role: ClassVar[bool] = True  # else the role becomes `system`
    json_schema: ClassVar[bool] = True  # else json_object, and the schema as text
    cache_control: ClassVar[bool] = False  # takes Anthropic's marks of what to cache, in chat
    max_choices: ClassVar[int | None] = None  # of `n`; None: as many as it takes itself
    drop: ClassVar[tuple[str, ...]] = ()  # request fields that it refuses
    drop_of_responses: ClassVar[tuple[str, ...]] = ()  # and those of its Responses API
    rename: ClassVar[Mapping[str, str]] = _NO_NAMES  # request field -> its name there
    message_edits: ClassVar[tuple[MessageEdit, ...]] = ()
    # Whether a chat may be prepared as one before it that differs in nothing but messages. It may
    # if messages are only looked at through the methods of Body, and if headers hang on nothing
    # else of a call than that it is a chat, its hops, and whether it streams.
    remembers: ClassVar[bool] = False

    # How it answers.
    finish_reasons: ClassVar[Mapping[str, str]] = _NO_NAMES  # foreign -> OpenAI's
    failing_finish_reasons: ClassVar[frozenset[str]] = frozenset()  # these are errors
    error_codes: ClassVar[Mapping[str, refusals.Kind]] = _NO_CODES  # beside OpenAI's
    # Whether all tokens of output that it charges for are text in its chat streams, thoughts too.
    # Who cannot be sure of that says no; then the longest answer is held for from the beginning.
    shows_all_output: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        # What a vendor promises, another one that is built on it may not keep.
        cls.remembers = vars(cls).get("remembers", False)

    @cached_property
    def endings(self) -> Endings:
        """Its own words for how chat answers end."""
        return Endings(self.finish_reasons, self.failing_finish_reasons)

    def prepare(  # noqa: PLR0917 (who asks, what, of whom, and within which limits)
        self,
        channel: Channel,
        model: str,
        call: Call,
        output_cap: int,
        hop: str,
        account: str = "",
    ) -> Prepared:
        """The request for one attempt. Raises BadRequest for what must not reach a shared vendor.

        `model` is the name at the vendor, `output_cap` the most tokens that it may write, `hop`
        this instance's id, `account` the caller's name.
        """
        is_shared = not channel.dedicated_account or channel.dedicated_account != account
        key = None
        if call.envelope is not None and self.remembers and call.dialect == "chat":
            words, hops = call.message_words, call.hops
            key = self, id(channel), model, is_shared, hop, call.envelope, words, output_cap, hops
            known = remembered.find(key)
            if known is not None:
                return known.prepared(call.fields["messages"])
        body = Body(call.fields, call.message_words)
        body.put("model", model)
        if call.dialect == "responses":
            url = self.responses_url(channel)
            self._edit_responses(body, channel.options, call, output_cap, is_shared)
        elif call.dialect == "messages":
            url = self.messages_url(channel)
            self._edit_messages(body, channel.options, call, output_cap, is_shared)
        else:
            url = self.chat_url(channel)
            self._edit_chat(body, channel.options, call, output_cap, is_shared)
        request = UpstreamRequest(
            url,
            self.headers(channel, call, hop),
            body.encode(),
            first_byte_timeout_s=channel.first_byte_timeout_s,
        )
        prepared = Prepared(request, tuple(body.adjusted))
        if key is not None:
            remembered.remember(key, channel, call, body, prepared)
        return prepared

    def _edit_chat(
        self, body: Body, options: ChannelOptions, call: Call, output_cap: int, is_shared: bool
    ) -> None:
        if self.max_choices is not None and call.choices > self.max_choices:
            raise BadRequest(
                f"'n' is {call.choices}, but this model gives at most {self.max_choices} choices "
                "a call. Ask several times.",
                code="unsupported_value",
                param="n",
            )
        cap_field = options.max_tokens_field or self.max_tokens_field
        self._set_cap(body, cap_field, output_cap)
        if call.stream:
            ask_for_usage(body)
        if is_shared:
            keep_apart(body)
        if call.effort_is_wish:
            self._fit_wish(body, "reasoning_effort", options)
        self.adapt(body)
        if not _either(options.json_schema, self.json_schema):
            json_schema_to_object(body)
        edits = self.edits(body)
        if not _either(options.developer_role, self.developer_role):
            edits = (DEVELOPER_TO_SYSTEM, *edits)
        edit_messages(body, edits)
        self._drop_and_rename(body, self.drop, options, call)
        # Again, and last: whatever was dropped or renamed, what is held is what is sent.
        body.put(self._name_there(cap_field, options), output_cap)

    def _edit_responses(
        self, body: Body, options: ChannelOptions, call: Call, output_cap: int, is_shared: bool
    ) -> None:
        responses.shape(body, call, output_cap)
        if is_shared:
            keep_apart(body)
        if call.effort_is_wish:
            self._fit_wish(body, "reasoning", options)
        self.adapt_responses(body)
        if not _either(options.json_schema, self.json_schema):
            responses.json_schema_to_object(body)
        self._drop_and_rename(body, (*self.drop, *self.drop_of_responses), options, call)
        cap_field = self._name_there(responses.CAP_FIELD, options)
        body.put(cap_field, max(output_cap, responses.LEAST_OUTPUT_TOKENS))

    def _edit_messages(
        self, body: Body, options: ChannelOptions, call: Call, output_cap: int, is_shared: bool
    ) -> None:
        output_cap = messages.cap_of(call, output_cap)
        messages.shape(body, call, output_cap)
        if is_shared:
            keep_messages_apart(body)
        self._drop_and_rename(body, (*self.drop, *MORE_THAN_HELD), options, call)
        body.put(self._name_there(messages.CAP_FIELD, options), output_cap)

    def takes_cache_control(self, channel: Channel) -> bool:
        """Whether its chat takes Anthropic's `cache_control` on parts and tools."""
        of_channel = channel.options.cache_control
        return self.cache_control if of_channel is None else of_channel

    def takes_effort(self, model: str) -> bool:
        """Whether a model of its own name takes a reasoning effort from who only wishes for it:
        servers differ in what they do with one that they do not know.
        """
        del model
        return False

    def fit_effort(self, model: str, effort: str) -> str | None:
        """The effort nearest to one that is only wished for that the model knows; None: left
        out.
        """
        del model
        return effort

    def adapt(self, body: Body) -> None:
        """For a subclass: change a chat's fields as no table says, and name what was done."""

    def adapt_responses(self, body: Body) -> None:
        """The same for a request of the Responses API."""

    def edits(self, body: Body) -> tuple[MessageEdit, ...]:
        """The edits of messages; a subclass may choose by what else the body says."""
        del body
        return self.message_edits

    def chat_url(self, channel: Channel) -> str:
        """Where chat completions are. A base URL that has the path already keeps it once."""
        return _base(channel.base_url) + _CHAT_PATH

    def responses_url(self, channel: Channel) -> str:
        """The same for the Responses API."""
        return _base(channel.base_url) + _RESPONSES_PATH

    def messages_url(self, channel: Channel) -> str:
        """The same for the Messages API."""
        return _base(channel.base_url) + messages.PATH

    def headers(self, channel: Channel, call: Call, hop: str) -> Headers:
        """The headers of a request. Of the client's own only those go on that belong to its API:
        version and betas of the Messages API.
        """
        accept = b"text/event-stream" if call.stream else b"application/json"
        headers = (
            (b"content-type", b"application/json"),
            (b"accept", accept),
            (b"user-agent", _USER_AGENT),
            (b"x-farebox-hop", ", ".join((*call.hops, hop)).encode("ascii", "replace")),
        )
        if call.dialect == "messages":
            headers = (*headers, *messages.headers(call))
        if channel.api_key:
            return (*self.credentials(channel.api_key.encode(), call.dialect), *headers)
        return headers

    def credentials(self, key: bytes, dialect: str) -> Headers:
        """The headers that hold the key. Servers that speak Messages look for it in either."""
        bearer = (b"authorization", b"Bearer " + key)
        return (bearer, (b"x-api-key", key)) if dialect == "messages" else (bearer,)

    def refused(self, channel: Channel, head: UpstreamHead, body: bytes) -> UpstreamRefused:
        """What an error status means for the caller, and whether another channel may do better."""
        said = refusals.read_body(body)
        kind = refusals.kind_of(head.status, said, self._codes())
        return refusals.refusal(channel, head.status, kind, said, refusals.retry_after_s(head))

    def error_event(self, channel: Channel, error: object) -> UpstreamRefused:
        """The same for an error object (decoded) within a stream or in an answer of status 200."""
        said = refusals.read_error(error)
        kind = refusals.kind_of(None, said, self._codes())
        refused = refusals.refusal(channel, 200, kind, said, None)
        refused.reason = "error_event"
        return refused

    def _codes(self) -> Mapping[str, refusals.Kind]:
        return {**refusals.OPENAI_CODES, **self.error_codes}

    def _set_cap(self, body: Body, field: str, output_cap: int) -> None:
        what = "dropped" if body.has(field) else "renamed"
        for name in _CAP_FIELDS:
            if name != field and name in body.fields and body.remove(name):
                body.note(name, what)
        body.put(field, output_cap)

    def _fit_wish(self, body: Body, field: str, options: ChannelOptions) -> None:
        model = str(body.value("model"))
        if not _either(options.reasoning_effort, self.takes_effort(model)):
            body.drop(field)
        elif field == "reasoning":
            responses.fit_effort(body, lambda effort: self.fit_effort(model, effort))
        else:
            fit_effort(body, lambda effort: self.fit_effort(model, effort))

    def _name_there(self, field: str, options: ChannelOptions) -> str:
        """What the field is called where it is sent."""
        there = dict(options.rename).get(field) if options.rename else None
        return there or self.rename.get(field, field)

    def _drop_and_rename(
        self, body: Body, refused: tuple[str, ...], options: ChannelOptions, call: Call
    ) -> None:
        for name in (*refused, *options.drop):
            # What only we had put in goes silently.
            if name in body.fields and body.remove(name) and name in call.fields:
                body.note(name, "dropped")
        for old, new in (*self.rename.items(), *options.rename):
            if old not in body.fields:
                continue
            value = body.fields.pop(old)
            if new in body.fields:
                body.note(old, "dropped")  # a caller who used the vendor's own name meant it
            else:
                body.put(new, value)
                body.note(old, "renamed")


@lru_cache(maxsize=1000)  # every call asks for it, and channels are few
def _base(base_url: str) -> str:
    """The base URL, without the path that an operator may have pasted with it."""
    base = base_url.rstrip("/")
    for path in _PATHS:
        base = base.removesuffix(path)
    return base


def _either(of_channel: bool | None, of_vendor: bool) -> bool:
    return of_vendor if of_channel is None else of_channel
