"""How much a message asks for the past: small talk little, a question about what was said a lot.

It decides how much room recall gets, and so how much of a request repeats the
one before it (G13).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from langmem_plugin.recall.need_weights import NEED

_QUESTION: Final = re.compile("[?\uff1f\u061f\u037e]")
_OPENS: Final = re.compile(
    r"^\W*(?:so |and |but |ok |okay |hey |hi |well |now |also )*"
    r"(?:(?:according to|based on|considering|given|in (?:light|view) of|judging by|as for|regarding)\b"
    r"[^.!?]{1,200}, )?"
    r"(?:what|which|who|whom|whose|when|where|why|how|did|does|do|was|were|is|are|has|have|had|can|could|would|will|"
    r"should|might|(?:in|at|on|for|to|from|with|of|by|about|after|around|before|during) (?:what|which|whom|how)|"
    r"since when)\b",
    re.IGNORECASE,
)
_PAST: Final = re.compile(
    r"\b(?:earlier|previously|mentioned|told|said|discussed|talked about|last time|ago|did|was|were|had|used to|ever|"
    r"first time|again|before|yesterday|last (?:week|month|year|night))\b",
    re.IGNORECASE,
)
_ASKS_MEMORY: Final = re.compile(
    r"\b(?:remember|remind me|recall|as i (?:said|told|mentioned)|last time we|earlier (?:i|we|you)|"
    r"(?:i|we|you) (?:\w+ )?(?:said|told|mentioned|discussed|talked about|decided|agreed)|"
    r"(?:did|have) (?:i|we|you) (?:\w+ )?(?:say|tell|mention|discuss|talk|decide|agree|suggest|recommend|told|said)|"
    r"know about me|what(?:'s| is| was| are| were) my|(?:where|when|what|which|who|how) (?:do|did|was|am|have) i|"
    r"what was (?:the|my|our)|who(?:'s| is| was) my|do i have|name of my|"
    r"weißt du noch|erinnerst du|habe ich (?:dir )?(?:gesagt|erzählt)|te souviens|ai-je dit|t'ai dit|"
    r"te acuerdas|te dije|ti ricordi|ti ho detto|você lembra|te disse)\b",
    re.IGNORECASE,
)
_OPENS_ELSEWHERE: Final = re.compile(
    r"^\W*(?:wo|wer|wen|wem|was|wann|wie|warum|woher|wohin|welche[rsnm]?|où|qui|quand|comment|pourquoi|quel(?:le)?s?|"
    r"que|qu|combien|dónde|quién|quiénes|cuándo|cómo|qué|cuál|cuánto|dove|chi|quando|come|perché|quale|quanto|onde|"
    r"quem|como|qual|waar|wanneer|hoe|welke|где|кто|что|когда|как|почему|какой|какая|сколько)\b"
    r"|[什哪谁誰何]|どこ|いつ|いくつ|なぜ|무엇|어디|언제|누구|왜|무슨",
    re.IGNORECASE,
)
_SMALL_TALK: Final = re.compile(
    r"\b(?:thanks|thank you|wow|hey|hi|hello|bye|good (?:morning|night|evening)|sounds|great|awesome|cool|"
    r"take care|how are you|how(?:'s| is) it going|what's up|see you|congrats|congratulations|lol|haha)\b",
    re.IGNORECASE,
)
_ADDRESSES: Final = re.compile(r"\b(?:you|your|yours|yourself|u|ya)\b", re.IGNORECASE)
FEATURES: Final = ("question", "opens", "past", "memory", "small_talk", "sentences", "words", "about", "best", "rare")


def features(query: str, *, named: bool = False, best: float, rare: float) -> dict[str, float]:
    """What the decision is made from.

    Args:
        query: The user's message.
        named: Whether it names somebody who speaks in the session.
        best: Highest score of recall, 0..1.
        rare: Mean rarity of the terms that were found, 0..1.
    """
    text = query[:2_000]
    sentences = max(1, len(re.findall(r"[.!?\u3002\uff01\uff1f]+(?:\s|$)", text)))
    words = text.split()
    return {
        "question": float(_QUESTION.search(text) is not None),
        "opens": float(_OPENS.match(text) is not None or _OPENS_ELSEWHERE.search(text[:200]) is not None),
        "past": float(_PAST.search(text) is not None),
        "memory": float(_ASKS_MEMORY.search(text) is not None),
        "small_talk": float(_SMALL_TALK.search(text) is not None),
        "sentences": min(4.0, sentences - 1.0),
        "words": min(4.0, max(0.0, (len(words) - 12) / 10)),
        "about": float(named and _QUESTION.search(text) is not None and _ADDRESSES.search(text) is None),
        "best": best,
        "rare": rare,
    }


def need(values: Mapping[str, float]) -> float:
    """0 (small talk) .. 1 (nothing but the past) for the features of a query."""
    logit = NEED["bias"] + sum(NEED[name] * value for name, value in values.items())
    return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, logit))))
