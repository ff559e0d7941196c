"""Prompts, and an audit of them before anything is trained.

Groups whose prompts share most tokens look alike to the text encoder, so a model that learns them
together tends to mix them up. What is counted is positions: two of nine tokens that differ say more
than any theory of the encoder.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

PLACEHOLDER = "{word}"
#: Beyond these the audit warns. Two unrelated prompts share few tokens; the study's prompts differ
#: in 1 of 9 and 1 of 5, and the embeddings of such prompts have a cosine above 0.9.
LEAST_DIFFERING, MOST_COSINE = 0.34, 0.9
MOST_IMBALANCE = 1.2


def build_prompts(conditions: Mapping[str, str], words: Mapping[str, str]) -> list[dict[str, str]]:
    """List the prompt of each condition and group.

    Raises
    ------
    ValueError
        A prompt without place for the word, or two groups with the same prompt.
    """
    rows = []
    for condition, template in conditions.items():
        if PLACEHOLDER not in template:
            raise ValueError(f"prompt {template!r}: no {PLACEHOLDER}; groups could not be told")
        texts = [template.replace(PLACEHOLDER, word) for word in words.values()]
        if len(set(texts)) < len(texts):
            raise ValueError(f"condition {condition}: two groups have the same prompt; change word")
        rows += [
            {"condition": condition, "group": group, "word": words[group], "prompt": text}
            for group, text in zip(words, texts, strict=True)
        ]
    return rows


def differing_fraction(first: Sequence[str], second: Sequence[str]) -> tuple[int, int]:
    """Count tokens of the longer prompt that are not in common, and all of its tokens.

    Common is the longest common subsequence, so that a word of several tokens in place of one
    does not make everything after it differ.

    >>> differing_fraction("ad , a mri brain".split(), "cn , a mri brain".split())
    (1, 5)
    """
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            table[i + 1, j + 1] = (
                table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
            )
    longest = max(len(first), len(second))
    return longest - int(table[-1, -1]), longest


def audit_prompts(
    rows: Sequence[Mapping[str, str]],
    tokenize: Callable[[str], list[str]],
    embed: Callable[[str], NDArray[Any]],
) -> list[dict[str, Any]]:
    """Compare the prompts of every two groups of a condition.

    Parameters
    ----------
    rows
        Of ``build_prompts``.
    tokenize
        Prompt → tokens as text.
    embed
        Prompt → vector.

    Returns
    -------
    table : list of dict
        Tokens, how many differ, their share, Jaccard index of the sets, cosine of the vectors,
        sub-words that the groups' words share, and a warning (empty if there is none).
    """
    table = []
    for condition in dict.fromkeys(row["condition"] for row in rows):
        own = [row for row in rows if row["condition"] == condition]
        for first, second in combinations(own, 2):
            a, b = tokenize(first["prompt"]), tokenize(second["prompt"])
            differing, longest = differing_fraction(a, b)
            shared = sorted(set(tokenize(first["word"])) & set(tokenize(second["word"])))
            x, y = embed(first["prompt"]), embed(second["prompt"])
            cosine = float(x @ y / max(float(np.linalg.norm(x) * np.linalg.norm(y)), 1e-12))
            row: dict[str, Any] = {
                "condition": condition,
                "first": first["group"],
                "second": second["group"],
                "first_tokens": " ".join(a),
                "second_tokens": " ".join(b),
                "differing_tokens": differing,
                "tokens": longest,
                "differing_fraction": differing / max(longest, 1),
                "jaccard": len(set(a) & set(b)) / max(len(set(a) | set(b)), 1),
                "embedding_cosine": cosine,
                "tokens_of_first_word": len(tokenize(first["word"])),
                "tokens_of_second_word": len(tokenize(second["word"])),
                "shared_subwords": " ".join(shared),
            }
            table.append(row | {"warning": _warn(row)})
    return table


def _warn(row: Mapping[str, Any]) -> str:
    said = []
    if row["shared_subwords"]:
        said.append(
            f"the words of {row['first']} and {row['second']} share {row['shared_subwords']}"
        )
    if row["differing_fraction"] < LEAST_DIFFERING:
        said.append(f"shared tokens: only {row['differing_tokens']} of {row['tokens']} differ")
    if row["embedding_cosine"] > MOST_COSINE:
        said.append(f"text embeddings have cosine {row['embedding_cosine']:.3f}")
    return "; ".join(said)


def imbalance_warning(counts: Mapping[str, int]) -> str:
    """Say so if groups have training slices in unlike numbers; empty otherwise.

    >>> imbalance_warning({"AD": 300, "CN": 400})
    'imbalance: 300 AD to 400 CN'
    """
    if max(counts.values()) < MOST_IMBALANCE * min(counts.values()):
        return ""
    return "imbalance: " + " to ".join(f"{n} {group}" for group, n in counts.items())
