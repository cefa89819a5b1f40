"""Texts to count, written for these tests: languages, scripts, code, data and signs."""

from collections.abc import Mapping

TEXTS: Mapping[str, str] = {
    "english": (
        "The ferry had left before dawn, and those who missed it sat on their suitcases and "
        "argued, in three languages, about whose clock was wrong. Nobody's was: it's winter "
        "time now, and they'd all slept an hour too long.\n\nAt 10:45 the next one came."
    ),
    "german": (
        "Der Schaffner blätterte umständlich in seinem Fahrplanheft, während draußen die "
        "Straßenbahnoberleitungen im Schneeregen schwankten. „Übermorgen“, sagte er schließlich, "
        "„fährt wieder ein Zug – sofern die Weichenheizung funktioniert.“"
    ),
    "chinese": (
        "清晨的码头上已经没有人了，只剩下几只海鸥在争抢昨天剩下的面包。老船长说，天气"
        "预报向来不准，可是今天的风确实不对劲。他把缆绳又检查了一遍，然后关掉了收音机。"
    ),
    "japanese": (
        "駅前の小さな喫茶店では、朝になると同じ三人がいつもの席に座り、コーヒーを飲みながら"
        "新聞を読んでいる。店主はラジオの音を少しだけ下げて、「今日は雪になりますよ」と言った。"
    ),
    "korean": (
        "강가의 작은 서점은 비가 오는 날에만 문을 열었다. 주인은 책을 읽다가 손님이 오면 "
        "고개를 끄덕이고, 다시 페이지를 넘겼다. 아무도 서두르지 않았다."
    ),
    "russian": (
        "Паром ушёл ещё до рассвета, и опоздавшие сидели на чемоданах, споря, чьи часы врут. "
        "Часы не врали: просто ночью перевели время, о чём никто не вспомнил."
    ),
    "arabic": (
        "غادرت العبّارة قبل الفجر، وجلس المتأخرون على حقائبهم يتجادلون: ساعة مَن هي الخاطئة؟ "
        "لم تكن أيّ ساعة خاطئة، فقد تغيّر التوقيت ليلاً ولم يتذكّر أحد ذلك."
    ),
    "hindi": (
        "नाव सुबह होने से पहले ही चली गई थी, और जो लोग छूट गए थे वे अपने संदूकों पर बैठकर "
        "बहस कर रहे थे कि किसकी घड़ी ग़लत है। किसी की भी नहीं थी।"
    ),
    "greek": (
        "Το πλοίο είχε φύγει πριν χαράξει, κι όσοι το έχασαν κάθονταν στις βαλίτσες τους και "
        "μάλωναν για το ποιανού το ρολόι έκανε λάθος."
    ),
    "code": (
        "def merge(left: list[int], right: list[int]) -> list[int]:\n"
        '    """Two sorted lists as one."""\n'
        "    merged, i, j = [], 0, 0\n"
        "    while i < len(left) and j < len(right):\n"
        "        if left[i] <= right[j]:\n            merged.append(left[i]); i += 1\n"
        "        else:\n            merged.append(right[j]); j += 1\n"
        "    return merged + left[i:] + right[j:]\n\n\n"
        "for (let k = 0; k < rows.length; ++k) { total += rows[k]?.price ?? 0; } // sum\r\n"
    ),
    "json": (
        '{"order": 20931, "lines": [{"sku": "A-113/b", "count": 12, "price": 0.0475},\n'
        '  {"sku": "Z-9", "count": 1, "price": 1e3}], "paid": false, "note": null,\n'
        '  "sent": "2026-11-23T20:15:00.123Z", "hash": "9f86d081884c7d659a2feaa0c55ad015"}'
    ),
    "emoji": (
        "Done 🎉🎉 – see you at 7 👩‍👩‍👧‍👦🇫🇮, bring 🍞+🧀… and don't be late 😴⏰!!!\n¯\\_(ツ)_/¯"
    ),
    "special": "Write <|endoftext|> and <|im_start|>user as they stand; they're just letters here.",
    "blanks": "a\n\n\n   b\t\tc  \r\n\r\n    d       e\u00a0f\u3000g \n",
}
