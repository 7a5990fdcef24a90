//! How repositories and workflows are named. What could lead to another path of the API is refused.

use std::fmt;

/// `owner/repo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    owner: String,
    name: String,
}

impl Repository {
    /// Refuses what could mean another path of the API.
    pub fn parse(slug: &str) -> Option<Repository> {
        let (owner, name) = slug.split_once('/')?;
        (is_plain(owner) && is_plain(name)).then(|| Repository { owner: owner.to_owned(), name: name.to_owned() })
    }

    pub(super) fn path(&self) -> String {
        format!("repos/{}/{}/actions", self.owner, self.name)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// A workflow by its file (`build.yml`) or number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workflow {
    pub repository: Repository,
    file: String,
}

impl Workflow {
    pub fn parse(slug: &str, file: &str) -> Option<Workflow> {
        is_plain(file).then_some(())?;
        Some(Workflow { repository: Repository::parse(slug)?, file: file.to_owned() })
    }

    pub(super) fn path(&self) -> String {
        format!("{}/workflows/{}", self.repository.path(), self.file)
    }
}

impl fmt::Display for Workflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "workflow {} of {}", self.file, self.repository)
    }
}

fn is_plain(segment: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !segment.is_empty() && !segment.starts_with('.') && segment.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        assert_eq!(Repository::parse("acme/app.js").map(|r| r.to_string()), Some("acme/app.js".to_owned()));
        for slug in ["", "acme", "acme/", "/app", "acme/app/x", "acme/..", "../app", "a b/c", "acme/app?x", "acme/%2e"]
        {
            assert_eq!(Repository::parse(slug), None, "{slug}");
        }
        let workflow = Workflow::parse("acme/app", "build.yml").map(|w| w.to_string());
        assert_eq!(workflow.as_deref(), Some("workflow build.yml of acme/app"));
        assert_eq!(Workflow::parse("acme/app", "../../runs"), None);
    }
}
