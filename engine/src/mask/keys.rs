//! Which attribute keys a policy names: exact names and globs, compared without (ASCII) case.

/// Patterns of keys, each with the rule that names it.
#[derive(Debug, Default)]
pub(super) struct KeyPatterns {
    /// Exact keys, by their length: most keys are told apart by it alone.
    exact: Vec<Vec<(Box<[u8]>, usize)>>,
    globs: Vec<(Glob, usize)>,
}

impl KeyPatterns {
    /// Adds a pattern; fails if it is empty.
    pub(super) fn add(&mut self, pattern: &str, rule: usize) -> Result<(), &'static str> {
        if pattern.is_empty() {
            return Err("a key must not be empty");
        }
        if pattern.contains('*') {
            self.globs.push((Glob::new(pattern), rule));
        } else {
            if self.exact.len() <= pattern.len() {
                self.exact.resize(pattern.len() + 1, Vec::new());
            }
            self.exact[pattern.len()].push((pattern.as_bytes().into(), rule));
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.globs.is_empty()
    }

    /// The first rule that names the key.
    pub(super) fn rule_of(&self, key: &[u8]) -> Option<usize> {
        let same_length = self.exact.get(key.len()).map_or(&[][..], Vec::as_slice);
        let exact = same_length.iter().filter(|(known, _)| known.eq_ignore_ascii_case(key)).map(|(_, rule)| *rule);
        let globs = self.globs.iter().filter(|(glob, _)| glob.matches(key)).map(|(_, rule)| *rule);
        exact.chain(globs).min()
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
    /// The rule that masks its values.
    pub(super) rule: Option<usize>,
    /// Its values are left as they are.
    pub(super) allowed: bool,
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
    pub(super) fn verdict(&mut self, key: &'a [u8], judge: impl FnOnce(&[u8]) -> Verdict) -> Verdict {
        if let Some(known) = self.known(key) {
            return *known;
        }
        let verdict = judge(key);
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
        let is_here = |&slot: &usize| matches!(self.slots[slot], Some((known, _)) if known == key);
        let slot = [first, first ^ 1].into_iter().find(is_here)?;
        self.slots[slot].as_mut().map(|(_, verdict)| verdict)
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

    fn patterns(keys: &[String]) -> KeyPatterns {
        let mut patterns = KeyPatterns::default();
        keys.iter().for_each(|key| patterns.add(key, 0).unwrap());
        patterns
    }

    #[test]
    fn keys_match_without_case_and_with_globs() {
        let keys = ["password", "*token", "http.request.header.*", "*secret*", "a*b*c"].map(String::from);
        let keys = patterns(&keys);
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
            assert_eq!(keys.rule_of(key.as_bytes()).is_some(), expected, "{key}");
        }
    }

    #[test]
    fn a_lone_star_matches_every_key() {
        let keys = patterns(&["*".to_owned()]);
        assert!(keys.rule_of(b"").is_some() && keys.rule_of(b"anything").is_some());
    }

    #[test]
    fn prefix_and_suffix_do_not_share_characters() {
        let keys = patterns(&["ab*ba".to_owned()]);
        assert_eq!(keys.rule_of(b"aba"), None);
        assert_eq!(keys.rule_of(b"abba"), Some(0));
    }

    #[test]
    fn of_several_rules_the_first_counts() {
        let mut keys = KeyPatterns::default();
        for (pattern, rule) in [("password", 2), ("*word", 1), ("p*", 3)] {
            keys.add(pattern, rule).unwrap();
        }
        assert_eq!(keys.rule_of(b"password"), Some(1));
        assert_eq!(keys.rule_of(b"pin"), Some(3));
        assert_eq!(keys.rule_of(b"user"), None);
    }

    #[test]
    fn an_empty_key_is_refused() {
        assert!(KeyPatterns::default().add("", 0).is_err());
    }
}
