"""Words that say nothing about a topic, by language, and which language a text is in.

The lists are short on purpose: function words only. Numbers, names and verbs that
carry meaning stay, because a question may hang on them.
"""

# ruff: noqa: SIM905, RUF001 - word lists read better as lines of words, and other scripts look alike

from __future__ import annotations

from typing import Final

ENGLISH: Final = frozenset(
    """a about above after again against all also am an and any are aren as at be because been before being below
    between both but by can cannot could couldn d did didn do does doesn doing don down during each few for from
    further get gets getting got had hadn has hasn have haven having he her here hers herself him himself his how i
    if in into is isn it its itself just let ll m me might more most much must my myself no nor not now of off oh ok
    okay on once only or other ought our ours ourselves out over own re s same shall she should shouldn so some such
    t than that the their theirs them themselves then there these they this those through to too under until up us
    ve very was wasn we were weren what when where which while who whom whose why will with won would wouldn you
    your yours yourself yourselves""".split()
)

_LATIN: Final[dict[str, frozenset[str]]] = {
    "english": ENGLISH,
    "german": frozenset(
        """aber alle als also am an auch auf aus bei bin bis bist da damit dann das dass dem den der des die dies diese
        dieser dir doch du durch ein eine einem einen einer eines er es euch für habe haben hat hatte ich ihr ihm ihn
        im in ist ja kann kein keine man mein meine mich mir mit nach nicht noch nun nur ob oder schon sein seine sich
        sie sind so und uns unser unter vom von vor wann war waren warum was wenn wer werden wie wieder wir wird wo
        wurde zu zum zur über""".split()
    ),
    "french": frozenset(
        """ai alors au aussi aux avec avez avons c ce cela ces cet cette comme d dans de des du elle elles en es est et
        eu il ils j je l la le les leur leurs lui m ma mais me mes moi mon même n ne nos notre nous on ont ou où par
        pas plus pour qu quand que quel quelle qui s sa sans se ses si son sont sur t ta te tes toi ton tu un une vos
        votre vous y à été était être""".split()
    ),
    "spanish": frozenset(
        """a al algo como con cual cuando cuándo cómo de del desde donde dónde dos e el ella ellas ellos en entre era
        es esa ese eso esta este esto está estoy fue ha hay he la las le les lo los me mi mis mucho muy más ni no nos
        nosotros o para pero por porque que quien qué se ser si sin sobre son soy su sus sí también te tengo tiene tu
        tus un una uno unos y ya yo él""".split()
    ),
    "italian": frozenset(
        """a ad agli ai al alla alle anche c che chi ci come con cosa cui d da dal dalla de degli dei del della delle di
        dove e ed era essere gli ha hai ho i il in io l la le lei lo loro ma me mi mia mio ne nei nel nella noi non o
        per perché più quando quanto quella quello questa questo qui se sei si sia sono su sua suo sul sulla ti tra tu
        tuo un una uno vi voi è""".split()
    ),
    "portuguese": frozenset(
        """a ao aos as até com como da das de dela dele do dos e ela elas ele eles em entre era essa esse esta este eu
        foi há isso isto já lhe mais mas me meu minha muito na nas no nos nossa nosso não nós o os ou para pela pelo
        por qual quando que quem se sem ser seu sua são só também te tem tenho um uma você vocês à é está estou
        onde""".split()
    ),
    "dutch": frozenset(
        """aan al alles als bij dan dat de der deze die dit doch doen door dus een en er ge geen had heb hebben heeft
        hem het hier hij hoe hun ik in is ja je jij jouw kan maar me meer men met mij mijn moet na naar niet nog nu of
        om omdat onder ons ook op over te tegen toch toen tot uit u uw van veel voor waar wanneer waren was wat we wel
        werd wie wij wil worden wordt zal ze zich zij zijn zo zonder zou""".split()
    ),
    "swedish": frozenset(
        """alla att av blev bli blir de dem den denna deras dess det detta dig din du där efter ej eller en er ett från
        för ha hade han hans har hon honom hur här i icke inte jag ju kan kunde man med mellan men mig min mot mycket
        ni nu när någon något när och om oss på sedan sig sin ska skulle som så till under upp ut utan vad var varför
        vem vi vid vilka vilken är åt över""".split()
    ),
    "danish": frozenset(
        """af alle at blev blive bliver da de dem den denne der deres det dette dig din dog du efter eller en end er et
        for fra ham han hans har havde hende her hos hun hvad hvis hvor hvornår i ikke ind jeg jer kan kunne man mange
        med meget men mig min mod ned noget nogle nu når og også om op os over på selv sig skal som sådan til ud under
        var vi vil ville være været""".split()
    ),
    "finnish": frozenset(
        """ei että hän ja jos joka kanssa kun kuin koska minä me mikä miksi milloin missä mitä mutta myös ne niin nyt
        olen olet oli olin on ovat sinä se sen siitä siinä tai te tämä vai voi että he""".split()
    ),
    "turkish": frozenset(
        """ama ben bir biz bu da daha de diye en gibi için ile ise ki kim mi mu mü mı nasıl ne neden nerede o olan
        olarak onu sen siz şu ve veya ya zaman çok""".split()
    ),
}
_RUSSIAN: Final = frozenset(
    """а без бы был была были было быть в вам вас во вот все всё вы где да для до его ее её если есть еще ещё же за и из
    или им их к как какой когда кто ли меня мне мой моя мы на нас не нет ни но ну о об он она они от по под при с со
    так там то тоже только ты у уже что чтобы чем это этот я""".split()
)
STOP_WORDS: Final[dict[str, frozenset[str]]] = {**_LATIN, "russian": _RUSSIAN}
"""By Snowball language name; a language that is not here has none."""

_VOTES: Final[dict[str, tuple[str, ...]]] = {
    word: tuple(name for name, words in _LATIN.items() if word in words) for word in frozenset().union(*_LATIN.values())
}

_SCRIPTS: Final = (
    ("\u0370", "\u03ff", "greek"),
    ("\u0400", "\u052f", "russian"),
    ("\u0530", "\u058f", "armenian"),
    ("\u0600", "\u06ff", "arabic"),
    ("\u0900", "\u097f", "hindi"),
    ("\u0b80", "\u0bff", "tamil"),
)


def script_language(word: str) -> str | None:
    """The language a word's script stands for; None for Latin and scripts without a stemmer."""
    first = word[0]
    if first < "\u0370":
        return None
    for low, high, language in _SCRIPTS:
        if low <= first <= high:
            return language
    return None


def guess_language(words: list[str]) -> tuple[str, bool]:
    """The likeliest language of lower-case words in Latin script, and whether that is sure.

    Counts function words. English wins ties, and is the answer when there are none.
    """
    votes: dict[str, int] = {}
    for word in words[:400]:
        for language in _VOTES.get(word, ()):
            votes[language] = votes.get(language, 0) + 1
    if not votes:
        return "english", False
    best = max(votes, key=lambda language: (votes[language], language == "english"))
    return best, votes[best] >= 2 and votes[best] > votes.get("english", 0) * (best != "english")
