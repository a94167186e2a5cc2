//! What telemetry is full of must stay: all detectors together may touch one text in a thousand.

use super::testing::{find, masked, may_match};
use super::{
    authorization, aws_key, azure_key, gcp_key, github_token, iban, ipv4, ipv6, jwt, mac, phone, private_key,
    secret_token, slack_token, stripe_key, url_password, us_ssn, uuid, Entry,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// The detectors that are on unless told otherwise.
const DEFAULT: [&Entry; 17] = [
    &iban::ENTRY,
    &us_ssn::ENTRY,
    &phone::ENTRY,
    &ipv4::ENTRY,
    &ipv6::ENTRY,
    &mac::ENTRY,
    &jwt::ENTRY,
    &authorization::ENTRY,
    &private_key::ENTRY,
    &aws_key::ENTRY,
    &gcp_key::ENTRY,
    &azure_key::ENTRY,
    &github_token::ENTRY,
    &slack_token::ENTRY,
    &stripe_key::ENTRY,
    &url_password::ENTRY,
    &secret_token::ENTRY,
];

/// A seeded source of telemetry strings.
struct Corpus(u64);

impl Corpus {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn chars(&mut self, alphabet: &str, length: usize) -> String {
        (0..length).map(|_| char::from(alphabet.as_bytes()[self.below(alphabet.len() as u64) as usize])).collect()
    }

    fn hex(&mut self, length: usize) -> String {
        self.chars("0123456789abcdef", length)
    }

    fn base64(&mut self, length: usize) -> String {
        self.chars("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", length)
    }

    fn word(&mut self) -> &'static str {
        const WORDS: [&str; 24] = [
            "checkout", "payment", "auth", "token", "cache", "order", "frontend", "worker", "gateway", "session",
            "request", "error", "timeout", "http", "grpc", "kafka", "user", "secret", "password", "add", "feed",
            "face", "basic", "bearer",
        ];
        WORDS[self.below(WORDS.len() as u64) as usize]
    }

    fn time(&mut self) -> String {
        let (year, month, day) = (2000 + self.below(40), 1 + self.below(12), 1 + self.below(28));
        let (hour, minute, second) = (self.below(24), self.below(60), self.below(60));
        match self.below(6) {
            0 => format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", self.below(1_000_000)),
            1 => format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+{hour:02}:00"),
            2 => format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02},{:03}", self.below(1000)),
            3 => format!("Mon, {day:02} Jan {year} {hour:02}:{minute:02}:{second:02} GMT"),
            4 => format!("{day:02}/Jan/{year}:{hour:02}:{minute:02}:{second:02} +0{}00", self.below(10)),
            _ => format!("{day:02}-{month:02}-{year} {hour:02}:{minute:02}:{second:02}"),
        }
    }

    fn text(&mut self) -> String {
        let (word, other) = (self.word(), self.word());
        let number = self.below(100_000);
        let small = self.below(1000);
        match self.below(40) {
            0 => self.hex(40),
            1 => self.time(),
            2 => format!("{}", 1_600_000_000_000 + self.below(200_000_000_000)),
            3 => format!("00-{}-{}-01", self.hex(32), self.hex(16)),
            4 => self.hex(16),
            5 => format!("v{}.{}.{}", self.below(30), self.below(100), self.below(100)),
            6 => format!("v{}.{}.{}.{}", self.below(30), self.below(100), self.below(100), self.below(250)),
            7 => format!("version={}.{}.{}.{}", self.below(30), self.below(100), self.below(100), self.below(250)),
            8 => format!("${}.{:02} + {}.{:02} EUR", number, self.below(100), small, self.below(100)),
            9 => format!("{word}-{}-{}", self.chars("bcdf0123456789", 10), self.chars("bcdfghjklmnpqrstvwxz2456789", 5)),
            10 => format!("registry.example.com/{word}/{other}@sha256:{}", self.hex(64)),
            11 => format!("took {}.{small:03}ms, {}µs, {}s", number, self.below(1000), self.below(100)),
            12 => format!("{} MiB of {} GiB ({}.{}%)", small, self.below(64), self.below(100), self.below(10)),
            13 => format!("https://{word}.example.com:{}/api/v1/{other}/{number}?page={small}&sort=asc", 1000 + number % 60000),
            14 => format!("src/{word}/{other}.rs:{small}:{}", self.below(100)),
            15 => format!("\tat com.acme.{word}.{other}.Handler.invoke(Handler.java:{small})"),
            16 => format!("  File \"/app/{word}/{other}.py\", line {small}, in handle_{word}"),
            17 => format!(
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.{}.{} Safari/537.36",
                self.below(140), self.below(7000), self.below(250)
            ),
            18 => format!("Mozilla/5.0 (X11; Linux x86_64; rv:{small}.0) Gecko/20100101 Firefox/{}.0.0.0", self.below(140)),
            19 => format!("SELECT id, {word} FROM {other}s WHERE id = {number} AND created_at > '{}' LIMIT {small}", self.time()),
            20 => format!("{word}_{other}_duration_seconds_bucket{{le=\"{}.{small}\"}}", self.below(10)),
            21 => format!("{word}:{other}_requests:rate{}m", self.below(30)),
            22 => format!("build {}.{number}.{}", self.below(20), self.below(10_000)),
            23 => format!("{}.{:06},{}.{:06}", self.below(90), self.below(1_000_000), self.below(180), self.below(1_000_000)),
            24 => format!("+{:02}.{:04}-{:03}.{:04}/", self.below(90), self.below(10_000), self.below(180), self.below(10_000)),
            25 => format!("W/\"{}-{}\"", self.hex(4), self.base64(27)),
            26 => format!("{}=", self.base64(43)),
            27 => format!("sha256-{}=", self.base64(43)),
            28 => format!("std::{word}::{other}::run at thread {number}"),
            29 => format!("{{\"level\":\"info\",\"ts\":{}.{small},\"msg\":\"{word} {other}\",\"id\":{number}}}", 1_700_000_000 + number),
            30 => format!("{}-{}-{}-{}-{}", self.hex(8), self.hex(4), self.hex(4), self.hex(4), self.hex(12)),
            31 => format!("ip-10-{}-{}-{}.eu-west-1.compute.internal", small % 256, self.below(256), self.below(256)),
            32 => format!("{word} {other} expired after {small} ms for shard {number}"),
            33 => format!("{word}.{other}.enabled=true {word}_{other}_total={number}"),
            34 => format!("{} {} {} {} {}", small, number, self.below(100), self.below(1000), self.below(10_000)),
            35 => format!("partition={} offset={} lag={number}", self.below(64), self.below(10_000_000_000)),
            36 => format!("{:05}-{:04} {:03}-{:03}", number, self.below(10_000), small, self.below(100)),
            37 => format!("1.3.6.1.4.1.{number}.{}.{}", self.below(10), self.below(10)),
            38 => format!("arn:aws:iam::{:012}:role/{word}-{other}", self.below(1_000_000_000_000)),
            _ => format!("{}e+{:02} NaN {}e-{:02} 0x{}", self.below(10), self.below(30), small, self.below(30), self.hex(8)),
        }
    }
}

#[test]
fn one_text_of_telemetry_in_a_thousand_is_touched_at_most() {
    const TEXTS: usize = 40_000;
    let mut corpus = Corpus(0x9e37_79b9_7f4a_7c15);
    let mut touched = Vec::new();
    for _ in 0..TEXTS {
        let text = corpus.text();
        for entry in DEFAULT {
            let after = masked(text.as_bytes(), &|text, report| find(entry, text, report));
            if after != text.as_bytes() {
                touched.push(format!("{}: {text}", entry.name));
            }
        }
    }
    assert!(touched.len() * 1000 <= TEXTS, "{} touched:\n{}", touched.len(), touched.join("\n"));
}

proptest! {
    #[test]
    fn any_bytes_are_searched_without_a_panic_and_what_is_found_was_asked_for(
        text in prop_oneof![
            vec(any::<u8>(), 0..80),
            "[0-9a-f:.% +()-]{0,60}".prop_map(String::into_bytes),
            "(bearer|token=|secret|eyJ|xoxb-|://|:|@|AKIA|sig=|\\\\n|%3D|[A-Za-z0-9]{1,20}|[ .=_\"-]){0,12}".prop_map(String::into_bytes),
        ],
    ) {
        for entry in DEFAULT.into_iter().chain([&uuid::ENTRY]) {
            let after = masked(&text, &|text, report| find(entry, text, report));
            prop_assert!(after == text || may_match(&entry.needs, &text), "{}", entry.name);
        }
    }
}
