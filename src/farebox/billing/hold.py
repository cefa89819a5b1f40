"""How much a call may cost at most, before it is sent: what to reserve, and which output cap that
pays.

    hold = ceil(rate · (input estimate · dearest input price + output cap · output price + tools))

What is held is what is sent: the upstream gets the cap that was held for, never more.
"""

from __future__ import annotations

import msgspec

from farebox.billing.charge import EXACT, ORDINARY_TIERS, ROUNDING_UP, window_ppm
from farebox.core.call import Call
from farebox.core.money import PPM
from farebox.core.price import Price

LEAST_OUTPUT_TOKENS = 16  # fewer are no answer; the call is refused
UNKNOWN_MAX_OUTPUT = 4096  # tokens sent for a model whose limit nobody stated
MAX_RATIO_PPM = PPM  # byte-level BPE never makes more than one token of a byte
MIN_RATIO_PPM = PPM // 4
_SPARSEST_PPM = PPM // 16  # of text; below that it was a file, a sound or white space
_USUAL_SHARE = 10  # a picture or file is mostly a tenth of the most that a table says, or less
_KEEP_RATIOS = 100_000  # pairs of key and model remembered, the newest; some 20 MB
_WARY_US = 24 * 3600 * 1_000_000  # after an absorbed call nothing is taken on trust for a day


class Bound(msgspec.Struct, frozen=True, gc=False):
    """What one call may cost: a fixed part and a part per output token, in 10^-12 nano-credits."""

    fixed_exact: int
    per_token_exact: int  # all choices together

    def nanocredits(self, output_tokens: int) -> int:
        """What must be held for answers of so many tokens each."""
        exact = self.fixed_exact + self.per_token_exact * output_tokens
        return (exact + ROUNDING_UP) // EXACT

    def affordable_tokens(self, held_nanocredits: int) -> int | None:
        """The output tokens that a hold pays for; None where they cost nothing. Never below 0."""
        if self.per_token_exact == 0:
            return None
        return max(0, (held_nanocredits * EXACT - self.fixed_exact) // self.per_token_exact)


def bound(call: Call, price: Price, rate_ppm: int, input_tokens: int, at_us: int) -> Bound:
    """The bound of a call whose input is at most `input_tokens`, at the dearest tier it may
    reach.

    One-hour cache writes are counted in where the call may make some: no vendor writes one unasked.
    """
    p_in, p_out = price.dearest_input, price.output
    if call.writes_1h:
        p_in = max(p_in, price.cache_write_1h)
    if call.audio_output:
        p_out = max(p_out, price.audio_output)
    if not price.is_flat:
        factor = _dearest_tier_ppm(price, call.service_tier) * window_ppm(price, at_us) // PPM
        on_input = on_output = factor
        long = price.long_context
        if long is not None and input_tokens > long.threshold:
            # Whatever the threshold does to the price, the input may also stay below it.
            on_input = max(factor, factor * long.input_multiplier_ppm // PPM)
            on_output = max(factor, factor * long.output_multiplier_ppm // PPM)
        p_in, p_out = p_in * on_input // PPM, p_out * on_output // PPM
    fixed = input_tokens * p_in
    if call.hosted_tools:
        prices = price.tool_prices
        fixed += PPM * sum([prices.get(name, 0) for name in call.hosted_tools])
    return Bound(rate_ppm * fixed, rate_ppm * call.choices * p_out)


def _dearest_tier_ppm(price: Price, service_tier: str | None) -> int:
    # `auto` lets the vendor choose any tier; a tier by name may still be answered by an ordinary
    # one, and an operator may have priced those too.
    dearest = PPM
    for tier, ppm in price.tiers:
        if ppm > dearest and (service_tier in ("auto", tier) or tier in ORDINARY_TIERS):
            dearest = ppm
    return dearest


class InputEstimate:
    """Tokens per byte of each key's prompts to each model, learnt from what upstreams reported."""

    def __init__(self) -> None:
        self._ratios_ppm: dict[tuple[str, str], int] = {}  # in the order in which they were learnt
        self._wary_until_us: dict[int, int] = {}

    def tokens(self, call: Call, account_id: int, key_id: str, model: str, now_us: int) -> int:
        """An upper estimate of a call's input tokens, without a tokenizer."""
        ratio, wary_until_us = MAX_RATIO_PPM, self._wary_until_us
        learnt = self._ratios_ppm.get((key_id, model))
        if learnt is not None and not (wary_until_us and now_us < wary_until_us.get(account_id, 0)):
            ratio = learnt + learnt // 4  # the next prompt may be denser than the average one
            if ratio < MIN_RATIO_PPM:
                ratio = MIN_RATIO_PPM
            elif ratio > MAX_RATIO_PPM:
                ratio = MAX_RATIO_PPM
        return (call.text_bytes * ratio + PPM - 1) // PPM + call.table_tokens  # rounded up

    def likely_tokens(self, call: Call, key_id: str, model: str) -> int:
        """The input tokens to expect, without a margin: what an answer without usage is charged
        for.
        """
        ratio = self._ratios_ppm.get((key_id, model), MIN_RATIO_PPM)
        return -(-call.text_bytes * ratio // PPM) + call.table_tokens // _USUAL_SHARE

    def learn(self, call: Call, key_id: str, model: str, input_tokens: int) -> None:
        """An upstream counted this call's input: move the average a quarter of the way."""
        if call.text_bytes == 0 or call.table_tokens or input_tokens == 0:
            return
        seen = input_tokens * PPM // call.text_bytes
        if seen > MAX_RATIO_PPM:
            seen = MAX_RATIO_PPM
        elif seen < _SPARSEST_PPM:
            return
        pair, ratios_ppm = (key_id, model), self._ratios_ppm
        known = ratios_ppm.get(pair)
        if known is not None:
            ratios_ppm[pair] = known + (seen - known) // 4
            return
        ratios_ppm[pair] = seen
        if len(ratios_ppm) > _KEEP_RATIOS:
            del ratios_ppm[next(iter(ratios_ppm))]

    def distrust(self, account_id: int, now_us: int) -> None:
        """A call of this account cost more than was held: estimate at one token a byte for a
        day.
        """
        self._wary_until_us[account_id] = now_us + _WARY_US
