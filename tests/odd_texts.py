"""Texts that tokenizers disagree about: whitespace, digits, scripts, marks, control characters, special tokens."""

ODD_TEXTS = (
    "", " ", "  ", "\n", "\t", "\r\n", " \n \n", "a  b   c", "end  ", "\t\tx\t y", "line\n\n\nline",
    "a\u00a0b\u2003c\u3000d",
    "1", " 1", "  12", "a1 b22  333", "in 1984 and 12,345.67", "v1.2.3", "x\n42", "\t7", "½ ² Ⅷ ৪২ ١٢٣ 十二", "3️⃣ 4",
    "don't we'll I'M they'Re 'S 's' ''", "HELLO'LL", "_snake_case CamelCase kebab-case", "a.b,c;d:e!f?", "!!!  ???",
    "$5 €7",
    "😀", "a😀b 👩‍👩‍👧‍👦 🇩🇪", "naïve café", "cafe\u0301", "Füße", "Привет, мир", "مرحبا بالعالم", "שלום", "नमस्ते दुनिया",
    "สวัสดีชาวโลก", "你好,世界", "こんにちは 世界", "안녕하세요", "Ελληνικά", "\u200b\u200d\ufeff", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "Ǆ ŉ ﬃ",
    "\x00", "\x01\x16\x1f", "a\x07b", "\x7f\x80\x9f", "\u2028\u2029", "\U0010ffff\ue000",
    "<|im_start|>user\nhi<|im_end|>\n", "x<|endoftext|>y", " <|im_end|> ", "<|im_end", "<|im_end|><|im_end|>",
    "<|IM_END|>",
    "def f(x):\n    return x ** 2  # 3\n", "https://a.b/c?d=1&e=2", "0x1F 1e-9", "A" * 70, "ab " * 30,
)  # fmt: skip
