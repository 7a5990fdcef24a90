//! Logs: one JSON object per event, and no secret in any of its spellings.

use ops_controller::config::LogFormat;
use ops_controller::plan::secret::Secret;
use ops_controller::telemetry::{self, to_sink};
use serde_json::Value;
use std::io::Write;
use std::sync::{Arc, Mutex};
use tracing::subscriber::with_default;

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("UTF-8")
    }
}

impl Write for Buffer {
    fn write(&mut self, part: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").write(part)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is printed when these secrets are known.
fn logged(format: LogFormat, secrets: &[&str], act: impl FnOnce()) -> String {
    let buffer = Buffer::default();
    let secrets: Vec<Secret> = secrets.iter().map(|s| Secret::new(*s)).collect();
    let (_telemetry, subscriber) = to_sink(format, "telemetry=info", &secrets, buffer.clone()).expect("a level");
    with_default(subscriber, act);
    buffer.text()
}

/// The predecessor's defect 49.
#[test]
fn an_event_is_one_json_line_with_its_fields_at_the_top() {
    let text = logged(LogFormat::Json, &[], || tracing::info!(cycle = 7, droplet.id = 42, "all is well"));
    assert_eq!(text.lines().count(), 1);
    let line: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["message"], "all is well");
    assert_eq!(line["cycle"], 7);
    assert_eq!(line["droplet.id"], 42);
    assert_eq!(line["target"], "telemetry");
    assert!(line["timestamp"].as_str().is_some_and(|t| t.ends_with('Z')), "{line}");
}

#[test]
fn text_is_readable_and_has_no_colours_when_it_is_not_for_a_terminal() {
    let text = logged(LogFormat::Text, &[], || tracing::warn!(slot = "s", "retains much"));
    assert!(text.contains("WARN") && text.contains("retains much") && text.contains("slot=\"s\""), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

/// The predecessor's defect 25.
#[test]
fn a_known_secret_is_printed_in_none_of_its_spellings() {
    let secret = "p@ss/w\"ord\\ %é+end";
    let spellings = [
        secret.to_owned(),
        "p%40ss%2Fw%22ord%5C%20%25%C3%A9%2Bend".to_owned(),
        "p%40ss%2fw%22ord%5c%20%25%c3%a9%2bend".to_owned(),
        "p%40ss%2Fw%22ord%5C+%25%C3%A9%2Bend".to_owned(),
        "cEBzcy93Im9yZFwgJcOpK2VuZA==".to_owned(),
        "cEBzcy93Im9yZFwgJcOpK2VuZA".to_owned(),
        Value::from(secret).to_string(),
        Value::from(Value::from(secret).to_string()).to_string(),
        format!("{secret:?}"),
        format!("{:?}", Value::from(secret).to_string()),
    ];
    for spelling in spellings {
        for format in [LogFormat::Json, LogFormat::Text] {
            let text = logged(format, &[secret], || {
                tracing::info!(field = %spelling, "the message has {spelling} in it");
            });
            for part in ["ss/w", "ss%2", "cEBz", "ord", "end\"", "2VuZA"] {
                assert!(!text.contains(part), "{part} of {spelling} is in {text}");
            }
            assert_eq!(text.matches("[redacted]").count(), 2, "{spelling}: {text}");
            if format == LogFormat::Json {
                serde_json::from_str::<Value>(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
            }
        }
    }
}

#[test]
fn url_safe_base64_and_the_base64_of_a_longer_text_are_known() {
    // "??>>" at that place gives the two characters in which the alphabets differ.
    let text = logged(LogFormat::Text, &["secret??>>secret"], || {
        tracing::info!("c2VjcmV0Pz8+PnNlY3JldA== c2VjcmV0Pz8-PnNlY3JldA Basic dXNlcjpzZWNyZXQ/Pz4+c2VjcmV0");
    });
    for part in ["c2VjcmV0", "NlY3JldA", "zZWNyZXQ"] {
        assert!(!text.contains(part), "{text}");
    }
}

#[test]
fn overlapping_secrets_leave_no_end_behind() {
    let text = logged(LogFormat::Text, &["abcdefgh", "efghijkl", "ghij"], || tracing::info!("<abcdefghijkl>"));
    assert!(text.contains("<[redacted]>"), "{text}");
}

#[test]
fn a_token_of_a_known_shape_goes_although_nobody_registered_it() {
    let text = logged(LogFormat::Json, &[], || {
        tracing::info!(
            url = "postgres://app:hunter2@db:5432/x",
            "tr_wgt_0123456789 and dop_v1_0123abcd, Authorization: Bearer abc.def"
        );
    });
    for part in ["0123", "hunter2", "abc.def"] {
        assert!(!text.contains(part), "{text}");
    }
    assert!(text.contains("postgres://app:[redacted]@db:5432/x"), "{text}");
}

#[test]
fn a_secret_of_three_bytes_is_ignored_and_one_of_four_is_not() {
    let text = logged(LogFormat::Text, &["pgx", "pgxy", ""], || tracing::info!("pgx. pgxy."));
    assert!(text.contains("pgx. [redacted]."), "{text}");
}

#[test]
fn secrets_and_level_change_while_it_runs() {
    let buffer = Buffer::default();
    let (telemetry, subscriber) = to_sink(LogFormat::Text, "telemetry=info", &[], buffer.clone()).expect("a level");
    with_default(subscriber, || {
        tracing::debug!(target: "ops_controller", "hidden");
        tracing::info!("before: later-secret");
        telemetry.add_secrets(&[Secret::new("later-secret")]);
        telemetry.set_level("debug").expect("a level");
        assert!(telemetry.set_level("=,=").is_err());
        tracing::debug!(target: "ops_controller", "shown: later-secret");
        tracing::debug!(target: "hyper", "a library's detail");
    });
    let text = buffer.text();
    assert!(text.contains("before: later-secret") && text.contains("shown: [redacted]"), "{text}");
    assert!(!text.contains("hidden") && !text.contains("detail"), "{text}");
}

#[test]
fn a_line_that_would_fill_the_memory_is_replaced_by_one_that_says_so() {
    let text = logged(LogFormat::Json, &["some-secret"], || {
        tracing::info!("{}some-secret", "x".repeat(300_000));
        tracing::info!("after it");
    });
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0]["message"].as_str().is_some_and(|m| m.contains("dropped")), "{}", lines[0]);
    assert_eq!(lines[1]["message"], "after it");
}

#[test]
fn what_is_registered_for_the_process_is_redacted_in_any_text() {
    telemetry::redact(&Secret::new("found-at-run-time"));
    assert_eq!(telemetry::redact_text("it is found-at-run-time!"), "it is [redacted]!");
}

#[test]
fn set_up_twice_does_not_fail_and_a_panic_does_not_print_its_secret() {
    // In a process of its own: the set-up is the process's, and its stdout is what is looked at.
    if std::env::var_os("TELEMETRY_CHILD").is_some() {
        telemetry::init(Some(LogFormat::Json), "telemetry=info", &[]);
        telemetry::init(None, "warn", &[Secret::new("canary-value")]);
        tracing::info!("hidden by the second level");
        panic!("the value was canary-value, tr_wgt_abc");
    }
    let output = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "set_up_twice_does_not_fail_and_a_panic_does_not_print_its_secret", "--nocapture"])
        .env("TELEMETRY_CHILD", "1")
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(!text.contains("canary-value") && !text.contains("tr_wgt_abc") && !text.contains("hidden"), "{text}");
    let line = text.lines().find(|l| l.contains("panicked")).expect("the panic is logged");
    let line: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(line["message"], "panicked: the value was [redacted], [redacted]");
    assert!(line["location"].as_str().is_some_and(|l| l.starts_with("tests/telemetry.rs:")), "{line}");
}
