//! Which attribute keys are sensitive: exact names and globs, compared without (ASCII) case.

/// A compiled list of sensitive keys.
#[derive(Debug, Default)]
pub(super) struct SensitiveKeys {
    /// Exact keys, by their length: most keys are told apart by it alone.
    exact: Vec<Vec<Box<[u8]>>>,
    globs: Vec<Glob>,
}

impl SensitiveKeys {
    /// Compiles; the error names the key by index.
    pub(super) fn compile(keys: &[String]) -> Result<SensitiveKeys, String> {
        let mut compiled = SensitiveKeys::default();
        for (index, key) in keys.iter().enumerate() {
            if key.is_empty() {
                return Err(format!("mask.keys[{index}]: a key must not be empty"));
            }
            if key.contains('*') {
                compiled.globs.push(Glob::new(key));
            } else {
                if compiled.exact.len() <= key.len() {
                    compiled.exact.resize(key.len() + 1, Vec::new());
                }
                compiled.exact[key.len()].push(key.as_bytes().into());
            }
        }
        Ok(compiled)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.globs.is_empty()
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        let same_length = self.exact.get(key.len()).map_or(&[][..], Vec::as_slice);
        same_length.iter().any(|known| known.eq_ignore_ascii_case(key))
            || self.globs.iter().any(|glob| glob.matches(key))
    }
}

/// A pattern in which `*` matches any run of characters: what stands between its stars, in order.
#[derive(Debug)]
struct Glob {
    prefix: Box<[u8]>,
    between: Vec<Box<[u8]>>,
    suffix: Box<[u8]>,
}

impl Glob {
    fn new(pattern: &str) -> Glob {
        let mut parts: Vec<Box<[u8]>> = pattern.split('*').map(|part| part.as_bytes().into()).collect();
        let suffix = parts.pop().unwrap_or_default();
        let prefix = if parts.is_empty() { Box::default() } else { parts.remove(0) };
        parts.retain(|part| !part.is_empty());
        Glob { prefix, between: parts, suffix }
    }

    /// Linear in the key for a given pattern: the leftmost place of each part is always good enough.
    fn matches(&self, key: &[u8]) -> bool {
        let Some(inner_end) = key.len().checked_sub(self.suffix.len()).filter(|&end| end >= self.prefix.len()) else {
            return false;
        };
        if !key[..self.prefix.len()].eq_ignore_ascii_case(&self.prefix)
            || !key[inner_end..].eq_ignore_ascii_case(&self.suffix)
        {
            return false;
        }
        let mut rest = &key[self.prefix.len()..inner_end];
        for part in &self.between {
            match rest.windows(part.len()).position(|window| window.eq_ignore_ascii_case(part)) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        true
    }
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Verdict {
    pub(super) sensitive: bool,
    /// No detector finds anything in the key itself.
    pub(super) clean: bool,
}

/// The keys of one request seen so far: the same few come with every item. A key has two places; a collision only costs
/// the work of looking again.
#[derive(Debug)]
pub(super) struct KeyCache<'a> {
    slots: [Option<(&'a [u8], Verdict)>; SLOTS],
}

const SLOTS: usize = 256;

impl Default for KeyCache<'_> {
    fn default() -> Self {
        KeyCache { slots: [None; SLOTS] }
    }
}

impl<'a> KeyCache<'a> {
    #[inline]
    pub(super) fn verdict(&mut self, key: &'a [u8], keys: &SensitiveKeys) -> Verdict {
        if let Some(known) = self.known(key) {
            return *known;
        }
        let verdict = Verdict { sensitive: keys.contains(key), clean: false };
        let first = slot_of(key);
        let slot = if self.slots[first].is_none() { first } else { first ^ 1 };
        self.slots[slot] = Some((key, verdict));
        verdict
    }

    pub(super) fn remember_clean(&mut self, key: &'a [u8]) {
        if let Some(known) = self.known(key) {
            known.clean = true;
        }
    }

    #[inline]
    fn known(&mut self, key: &[u8]) -> Option<&mut Verdict> {
        let first = slot_of(key);
        let is_here = |slot: &Option<(&[u8], Verdict)>| matches!(slot, Some((known, _)) if *known == key);
        let slot = if is_here(&self.slots[first]) { first } else { first ^ 1 };
        self.slots[slot].as_mut().filter(|(known, _)| *known == key).map(|(_, verdict)| verdict)
    }
}

/// Keys of one namespace differ at their end.
#[inline]
fn slot_of(key: &[u8]) -> usize {
    let tail = match key.last_chunk::<8>() {
        Some(tail) => u64::from_le_bytes(*tail),
        None => key.iter().fold(0, |hash, &byte| hash << 8 | u64::from(byte)),
    };
    ((tail ^ (key.len() as u64) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_match_without_case_and_with_globs() {
        let keys = ["password", "*token", "http.request.header.*", "*secret*", "a*b*c"].map(String::from);
        let keys = SensitiveKeys::compile(&keys).unwrap();
        for (key, expected) in [
            ("password", true),
            ("PassWord", true),
            ("password2", false),
            ("passwore", false),
            ("token", true),
            ("access_TOKEN", true),
            ("tokens", false),
            ("HTTP.request.header.cookie", true),
            ("http.request.header", false),
            ("my.Secret.key", true),
            ("secret", true),
            ("secre", false),
            ("abc", true),
            ("a-b-c", true),
            ("acb", false),
            ("ac", false),
            ("", false),
        ] {
            assert_eq!(keys.contains(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn a_lone_star_matches_every_key() {
        let keys = SensitiveKeys::compile(&["*".to_owned()]).unwrap();
        assert!(keys.contains(b"") && keys.contains(b"anything"));
    }

    #[test]
    fn prefix_and_suffix_do_not_share_characters() {
        let keys = SensitiveKeys::compile(&["ab*ba".to_owned()]).unwrap();
        assert!(!keys.contains(b"aba"));
        assert!(keys.contains(b"abba"));
    }

    #[test]
    fn an_empty_key_is_refused_by_name() {
        assert_eq!(
            SensitiveKeys::compile(&["a".to_owned(), String::new()]).unwrap_err(),
            "mask.keys[1]: a key must not be empty"
        );
    }
}
