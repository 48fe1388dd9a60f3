"""The words that rules read: months, numbers, negations, decisions; small letters."""

# ruff: noqa: SIM905 - a line of words reads better than a list of strings
from __future__ import annotations

import re

MONTHS = (
    ("january", "jan", "januar", "janvier", "enero", "gennaio", "января"),
    ("february", "feb", "februar", "février", "febrero", "febbraio", "февраля"),
    ("march", "mar", "märz", "mars", "marzo", "марта"),
    ("april", "apr", "avril", "abril", "aprile", "апреля"),
    ("may", "mai", "mayo", "maggio", "мая"),
    ("june", "jun", "juni", "juin", "junio", "giugno", "июня"),
    ("july", "jul", "juli", "juillet", "julio", "luglio", "июля"),
    ("august", "aug", "août", "agosto", "августа"),
    ("september", "sep", "sept", "septembre", "septiembre", "settembre", "сентября"),
    ("october", "oct", "oktober", "octobre", "octubre", "ottobre", "октября"),
    ("november", "nov", "novembre", "noviembre", "ноября"),
    ("december", "dec", "dezember", "décembre", "diciembre", "dicembre", "декабря"),
)
MONTH_OF = {name: f"m{number:02}" for number, names in enumerate(MONTHS, 1) for name in names}
ALSO_WORDS = frozenset({"may", "march", "mar", "mars"})
"""Months only where they are capitalised."""
DAYS = frozenset(
    "monday tuesday wednesday thursday friday saturday sunday yesterday today tomorrow tonight "
    "montag dienstag mittwoch donnerstag freitag samstag sonntag gestern heute morgen "
    "lundi mardi mercredi jeudi vendredi samedi dimanche hier aujourd'hui demain "
    "lunes martes miércoles jueves viernes sábado domingo ayer hoy mañana вчера сегодня завтра".split()
)
NEAR = frozenset("last next this past".split())
SPANS = frozenset("week weekend month year summer winter spring fall autumn night morning evening".split())
NUMBER_OF = {
    word: str(number)
    for number, word in (
        *enumerate("two three four five six seven eight nine ten eleven twelve".split(), 2),
        (15, "fifteen"), (20, "twenty"), (30, "thirty"), (40, "forty"), (50, "fifty"), (100, "hundred"),
        (1000, "thousand"),
    )
}  # fmt: skip
NEGATIONS = frozenset(
    "not never no without none nobody nothing neither nor cannot cant dont wont isnt doesnt didnt "
    "nicht kein keine keinen keiner nie niemals ohne pas jamais sans rien aucun aucune nunca sin ningún ninguna "
    "jamás nada non mai senza не нет никогда без".split()
)
DECISIONS = frozenset(
    "decide decided decision agree agreed agreement choose chose chosen plan plans planned planning will going "
    "promise promised book booked schedule scheduled order ordered cancel cancelled canceled must should prefer "
    "want wants need needs remember always switch switched settled confirmed approved rejected deadline let's "
    "entschieden beschlossen vereinbart muss soll will möchte immer décidé choisi convenu doit veux toujours "
    "decidido acordado debe quiero siempre prefiero deciso deve voglio решили решил надо нужно всегда".split()
)
CASELESS_NEGATIONS = re.compile("不|没|沒|别|別|无|無|未|ない|ません|ไม่|않|안 ")
CASELESS_DECISIONS = re.compile("决定|決定|同意|计划|計画|計劃|必须|必須|需要|想要|约定|予定|要る|ต้อง|결정|계획")
COMMON = frozenset(
    "a an the and or but if so i i'm i've i'd i'll it it's he she we you they my your his her our their this that "
    "these those there here what when where who why how which is are was were be been am do does did have has had "
    "can could would yes yeah ok okay oh hey hi hello wow thanks thank well now then also just really very please "
    "for from with about into over of on in at to by as up out not no never will shall all any some more most "
    "der die das und oder aber ich du er sie es wir ihr ein eine ist sind war le la les et ou mais je tu il elle "
    "nous vous un une est sont el los las y o pero yo tú él ella es son".split()
)
