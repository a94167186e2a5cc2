//! What a storm, a crowd and a slow provider do to what is known of tokens.

use super::*;
use sha2::{Digest, Sha256};

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn token(number: usize) -> Vec<u8> {
    format!("eyJhbGciOiJSUzI1NiJ9.payload{number}.signature").into_bytes()
}

fn judge(tokens: &Tokens, token: &[u8], address: IpAddr) -> Judged {
    tokens.judge(token, Sha256::digest(token).into(), address)
}

fn believed(tenant: &str) -> Verdict {
    Verdict::Believed { tenant: tenant.into(), signals: Signals::ALL }
}

fn later(judged: Judged) -> oneshot::Receiver<Verdict> {
    match judged {
        Judged::Later(receiver) => receiver,
        other => panic!("judged already: {other:?}"),
    }
}

fn now(judged: Judged) -> Verdict {
    match judged {
        Judged::Now(verdict) => verdict,
        other => panic!("{other:?}"),
    }
}

#[test]
fn however_many_wait_there_is_one_question() {
    let tokens = Tokens::new().unwrap();
    let waiting: Vec<_> = (0..100).map(|_| later(judge(&tokens, &token(1), HOME))).collect();
    let questions = tokens.drain();
    assert_eq!((questions.len(), tokens.drain().len()), (1, 0));
    assert_eq!(questions[0].token, token(1));
    tokens.answer(questions[0].id, &believed("acme"), Duration::from_secs(60));
    for mut receiver in waiting {
        assert_eq!(receiver.try_recv(), Ok(believed("acme")));
    }
    assert_eq!(now(judge(&tokens, &token(1), HOME)), believed("acme"));
    let counts = tokens.counts();
    assert_eq!((counts.waiting, counts.pending, counts.asked), (0, 0, 1));
}

#[test]
fn a_verdict_is_forgotten_when_it_runs_out() {
    let tokens = Tokens::new().unwrap();
    for verdict in [believed("acme"), Verdict::Refused] {
        let mut receiver = later(judge(&tokens, &token(1), HOME));
        tokens.answer(tokens.drain()[0].id, &verdict, Duration::ZERO);
        assert_eq!(receiver.try_recv(), Ok(verdict));
    }
    drop(later(judge(&tokens, &token(1), HOME)));
}

#[test]
fn what_nobody_could_judge_is_asked_again() {
    let tokens = Tokens::new().unwrap();
    let unavailable = Verdict::Unavailable { retry_after: Duration::from_secs(3) };
    let mut receiver = later(judge(&tokens, &token(1), HOME));
    tokens.answer(tokens.drain()[0].id, &unavailable, Duration::from_secs(60));
    assert_eq!(receiver.try_recv(), Ok(unavailable));
    drop(later(judge(&tokens, &token(1), HOME)));
}

#[test]
fn a_storm_drives_no_known_token_out_and_its_questions_are_bounded() {
    let tokens = Tokens::new().unwrap();
    let limits = TokenLimits { max_refused: 16, ..TokenLimits::default() };
    tokens.configure(limits);
    drop(later(judge(&tokens, &token(0), HOME)));
    tokens.answer(tokens.drain()[0].id, &believed("acme"), Duration::from_secs(60));
    let (mut asked, mut throttled) = (0, 0);
    for number in 1..5_000 {
        match judge(&tokens, &token(number), HOME) {
            Judged::Later(_) => asked += 1,
            Judged::Now(Verdict::Unavailable { retry_after }) => {
                assert!(retry_after > Duration::ZERO);
                throttled += 1;
            }
            other => panic!("{other:?}"),
        }
        for question in tokens.drain() {
            tokens.answer(question.id, &Verdict::Refused, Duration::from_secs(60));
        }
        assert_eq!(now(judge(&tokens, &token(0), HOME)), believed("acme"));
    }
    // The burst of one address, and what flows in during the test.
    assert!((199..400).contains(&asked), "{asked}");
    assert_eq!(asked + throttled, 4_999);
    assert!(tokens.counts().refused <= 16);
    // Another address may still ask.
    drop(later(judge(&tokens, &token(6_000), "192.0.2.7".parse().unwrap())));
}

#[test]
fn addresses_are_told_apart_up_to_a_number() {
    let tokens = Tokens::new().unwrap();
    let fast = Rate { per_second: 1e9, burst: 1e9 };
    tokens.configure(TokenLimits { questions: fast, ..TokenLimits::default() });
    for number in 0..20_000u32 {
        drop(judge(&tokens, &token(number as usize), IpAddr::from(number.to_be_bytes())));
        for question in tokens.drain() {
            tokens.answer(question.id, &Verdict::Refused, Duration::ZERO);
        }
    }
    assert!(lock(&tokens.state).by_address.len() <= MAX_ADDRESSES);
}

#[test]
fn only_what_may_be_a_signed_token_is_one() {
    let long = format!("ey.{}.c", "b".repeat(MAX_TOKEN_BYTES)).into_bytes();
    for garbage in [&b""[..], b"gwk_1234_abc", b"ey.b", b"ey.b.c.d", b"ey..c", b"ey.b.", b"ey.b c.d", b"xy.b.c", &long]
    {
        assert!(!is_signed_token(garbage), "{garbage:?}");
    }
    assert!(is_signed_token(b"eyA.b-_.c"));
}

#[test]
fn a_late_answer_does_no_harm() {
    let tokens = Tokens::new().unwrap();
    tokens.answer(7, &believed("acme"), Duration::from_secs(1));
    drop(judge(&tokens, &token(1), HOME));
    let id = tokens.drain()[0].id;
    tokens.answer(id, &believed("acme"), Duration::from_secs(60));
    tokens.answer(id, &Verdict::Refused, Duration::from_secs(60));
    assert_eq!(now(judge(&tokens, &token(1), HOME)), believed("acme"));
}
