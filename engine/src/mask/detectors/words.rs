//! What is made of words is no secret: `kebab-case-words`, `com.acme.ClassName`, `us-east-1`, `getUserInformation`.

/// Whether all that stands between signs are words or small numbers.
pub(super) fn are_words(token: &[u8]) -> bool {
    token.split(|byte| !byte.is_ascii_alphanumeric()).all(is_word_or_number)
}

fn is_word_or_number(piece: &[u8]) -> bool {
    /// A year, a port.
    const LONGEST_NUMBER: usize = 4;
    /// As in `sha256`.
    const LONGEST_SUFFIX: usize = 3;
    let letters = piece.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let (word, number) = piece.split_at(letters);
    if !number.iter().all(u8::is_ascii_digit) {
        return false;
    }
    match (word.is_empty(), number.is_empty()) {
        (true, _) => number.len() <= LONGEST_NUMBER,
        (false, true) => is_camel_case(word),
        (false, false) => number.len() <= LONGEST_SUFFIX && word.iter().all(u8::is_ascii_lowercase),
    }
}

/// One word, or words run together that are not shorter than those of a language.
fn is_camel_case(letters: &[u8]) -> bool {
    const SHORTEST_ON_AVERAGE: usize = 4;
    let changes =
        letters.windows(2).filter(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase()).count();
    changes == 0 && is_plain_word(letters) || changes > 0 && letters.len() >= SHORTEST_ON_AVERAGE * (changes + 1)
}

/// Of one case, or with capitals in front.
fn is_plain_word(letters: &[u8]) -> bool {
    let capitals = letters.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    letters[capitals..].iter().all(u8::is_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_from_random_characters() {
        for (token, expected) in [
            ("kebab-case-words", true),
            ("com.acme.ClassName", true),
            ("us-east-1", true),
            ("getUserInformation", true),
            ("HTTPServer", true),
            ("sha256-rsa", true),
            ("2024-01-15", true),
            ("a8Kd03jfLq9x", false),
            ("aBcDeFgHiJkL", false),
            ("kebab-a8Kd03", false),
            ("4bf92f3577b34da6", false),
            ("20240115100007", false),
        ] {
            assert_eq!(are_words(token.as_bytes()), expected, "{token}");
        }
    }
}
