"""Texts that tokenizers are likeliest to read otherwise in a runtime than in transformers."""

ODD_TEXTS = (
    "",
    " ",
    "a",
    ".",
    "\t\n ",
    "word " * 2000,
    "x" * 3000,
    "😀🔥 👩‍👩‍👧‍👦 🏳️‍🌈 ❤️",
    "Привет, как дела?",
    "你好，世界。这是一个测试。",
    "こんにちは世界",
    "مرحبا بالعالم",
    "שלום עולם",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "Ünïcödé naïve café ﬁ Å Å ½",
    "[CLS] [SEP] [PAD] [MASK] [UNK] <s> </s>",
    "UPPER lower MiXeD 1234567890 3.14 1e-9",
    "zero\u200bwidth\u00a0space \ufeff bom \u202e right-to-left",
    "http://example.com/a?b=c&d=e#f user@example.com @name #tag",
)
ODD_DECODER_TEXTS = (
    *ODD_TEXTS[:5], "in 1945 there were 3 of 27 left", "a\tb\n\nc  d   e", "x = 10 ** -3; # 100%", *ODD_TEXTS[7:],
    "<|im_start|>user\nhello<|im_end|>", "don't you'll we've I'M", "ends with spaces   ",
)  # fmt: skip
"""Of language models; what a device never reads in one go is left out, and what chats are made of is in."""
