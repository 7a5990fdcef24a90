//! One finding of `doctor`, whoever looked: the controller's part and the runner's are told alike.

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub ok: bool,
    /// The variable or the thing that it is about.
    pub what: String,
    pub detail: String,
}

impl Check {
    pub fn ok(what: &str, detail: impl Into<String>) -> Check {
        Check { ok: true, what: what.into(), detail: detail.into() }
    }

    pub fn bad(what: &str, detail: impl Into<String>) -> Check {
        Check { ok: false, what: what.into(), detail: detail.into() }
    }

    /// Of a warning, which begins with the name that it is about.
    pub fn warning(text: &str) -> Check {
        let (what, detail) = text.split_once(' ').unwrap_or(("configuration", text));
        Check::bad(what, detail)
    }
}
