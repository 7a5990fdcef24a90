//! What cannot be carried literally is refused by field name; what can, arrives as it was.

use ops_controller::plan::user_data::{MAX_BYTES, Problem, Registry, UserData, render};

use super::{compose, document, env, example, text, variable};

type Setter = fn(&mut UserData<'static>, &'static str);

/// Every field that takes text, and how to set it.
const FIELDS: [(&str, Setter); 9] = [
    ("instance_name", |data, value| data.instance_name = value),
    ("trigger_version", |data, value| data.trigger_version = value),
    ("api_url", |data, value| data.api_url = value),
    ("otel_endpoint", |data, value| data.otel_endpoint = value),
    ("worker_token", |data, value| data.worker_token = value),
    ("managed_secret", |data, value| data.managed_secret = value),
    ("registry.url", |data, value| registry(data).url = value),
    ("registry.username", |data, value| registry(data).username = Some(value)),
    ("registry.password", |data, value| registry(data).password = Some(value)),
];

fn registry<'d>(data: &'d mut UserData<'static>) -> &'d mut Registry<'static> {
    data.registry.as_mut().expect("the example has a registry")
}

fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

#[test]
fn what_cannot_be_carried_is_refused_by_field_and_never_echoed() {
    let bad = [
        ("", Problem::Empty),
        ("MARK\nruncmd: [reboot]", Problem::ControlCharacter),
        ("MARK\r", Problem::ControlCharacter),
        ("MARK\0", Problem::ControlCharacter),
        ("MARK\u{7f}", Problem::ControlCharacter),
        ("MARK\u{85}", Problem::ControlCharacter),
        ("MARK\u{1f680}", Problem::NotAscii),
        ("MARK\u{2028}", Problem::NotAscii),
        ("MARK' TRIGGER_API_URL='x", Problem::SingleQuote),
        ("MARK\\", Problem::Backslash),
        (leaked("M".repeat(70_000)), Problem::TooLong { bytes: 70_000, limit: 4096 }),
    ];
    for (field, set) in FIELDS {
        for (value, problem) in bad {
            let mut data = example();
            set(&mut data, value);
            let error = render(&data).expect_err(field);
            assert_eq!((error.field, error.problem), (field, problem));
            let shown = format!("{error} {error:?}");
            assert!(shown.starts_with(field), "{shown}");
            assert!(!shown.contains("MARK") && shown.len() < 200, "{field} echoes its value");
        }
    }
}

#[test]
fn names_versions_and_urls_have_their_own_form() {
    let bad: [(usize, &[&'static str], Problem); 3] = [
        (0, &["under_score", "-edge", "edge-", "a b", "a$b"], Problem::NotAHostname),
        (1, &["latest", "v4", "v4-beta", "4.5.12", "v4.5.12@sha256", "v4.5.12 "], Problem::NotAnExactVersion),
        (2, &["trigger.example.com", "ftp://x", "https://", "https:///x", "https://a b"], Problem::NotAUrl),
    ];
    for (index, values, problem) in bad {
        let (field, set) = FIELDS[index];
        for value in values {
            let mut data = example();
            set(&mut data, value);
            let error = render(&data).expect_err(value);
            assert_eq!((error.field, error.problem), (field, problem), "{value}");
        }
    }
}

#[test]
fn defect_42_what_looks_like_syntax_arrives_literally() {
    let nasty = r##"a"b$c${D}$$e`id`$(id) # f: g, {h} [i] & *j !k %l @m <<EOF"##;
    for (index, key) in [
        (4, "TRIGGER_WORKER_TOKEN"),
        (5, "MANAGED_WORKER_SECRET"),
        (6, "DOCKER_REGISTRY_URL"),
        (7, "DOCKER_REGISTRY_USERNAME"),
        (8, "DOCKER_REGISTRY_PASSWORD"),
    ] {
        let mut data = example();
        FIELDS[index].1(&mut data, nasty);
        assert_eq!(variable(&env(&data), key).as_deref(), Some(nasty), "{key}");
        // It changed one line of one file and nothing else.
        assert_eq!(compose(&data), compose(&example()));
        assert_eq!(document(&text(&data))["runcmd"], document(&text(&example()))["runcmd"]);
        assert_eq!(env(&data).lines().count(), env(&example()).lines().count());
    }
}

#[test]
fn the_longest_values_still_fit_the_limit_of_the_cloud() {
    let mut data = example();
    for (_, set) in &FIELDS[4..] {
        set(&mut data, leaked("\"".repeat(4096)));
    }
    // A double quote costs two bytes in the JSON, so this is the worst case.
    let rendered = render(&data).expect("fits");
    assert!(rendered.len() < MAX_BYTES, "{} bytes", rendered.len());
    assert!(text(&example()).len() < MAX_BYTES / 3, "the usual text leaves room");
}
