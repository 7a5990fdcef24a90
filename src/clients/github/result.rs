//! What a build says it made: `result.json` in the artifact `ops-result`. Pure.
//!
//! Job outputs are not in the API, and a log is written by whatever ran; an artifact is neither. What
//! it says still comes from outside: it is checked before anything is deployed from it.

use super::archive;
use serde::Deserialize;

pub const ARTIFACT: &str = "ops-result";
pub const FILE: &str = "result.json";
/// Two short texts; more is somebody else's file.
pub const LARGEST: usize = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BuildResult {
    /// The whole reference: `ghcr.io/acme/app:1f2e3d4`.
    pub image_tag: String,
    /// `sha256:` and 64 hexadecimal digits.
    pub image_digest: String,
}

impl BuildResult {
    /// The image by its digest: what was built, even if the tag is moved later.
    pub fn pinned(&self) -> String {
        let slash = self.image_tag.rfind('/').map_or(0, |at| at + 1);
        let name = match self.image_tag[slash..].find(':') {
            Some(colon) => &self.image_tag[..slash + colon],
            None => &self.image_tag,
        };
        format!("{name}@{}", self.image_digest)
    }

    /// From an artifact's bytes; the error ends a sentence that begins with the artifact.
    pub fn read(bytes: &[u8]) -> Result<BuildResult, String> {
        let json = match archive::is_archive(bytes) {
            true => archive::file(bytes, FILE, LARGEST)?,
            // Uploaded without an archive around it.
            false => bytes.to_vec(),
        };
        let result: BuildResult = serde_json::from_slice(&json).map_err(|_| {
            format!("must hold {FILE} with the texts image_tag and image_digest: correct what writes it")
        })?;
        let BuildResult { image_tag, image_digest } = &result;
        if !is_image(image_tag) {
            return Err("has an image_tag that is no image reference".to_owned());
        }
        if !is_digest(image_digest) {
            return Err("has an image_digest that is not sha256: and 64 hexadecimal digits".to_owned());
        }
        Ok(result)
    }
}

fn is_image(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':');
    (1..=512).contains(&text.len()) && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(fits)
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tag: &str, digest: &str) -> Result<BuildResult, String> {
        BuildResult::read(serde_json::json!({ "image_tag": tag, "image_digest": digest }).to_string().as_bytes())
    }

    #[test]
    fn a_result_names_the_image_by_tag_and_by_digest() {
        let digest = format!("sha256:{}", "0f".repeat(32));
        for (tag, name) in [
            ("ghcr.io/acme/app:1f2e", "ghcr.io/acme/app"),
            ("localhost:5000/app", "localhost:5000/app"),
            ("localhost:5000/app:v1", "localhost:5000/app"),
        ] {
            assert_eq!(read(tag, &digest).expect("a result").pinned(), format!("{name}@{digest}"));
        }
    }

    #[test]
    fn nothing_that_could_mean_something_else_is_deployed() {
        let digest = format!("sha256:{}", "0f".repeat(32));
        for tag in ["", " app", "app:1; rm", "-app", "app@sha256:00", "a\nb"] {
            assert!(read(tag, &digest).is_err(), "{tag:?}");
        }
        for digest in ["", "sha256:", "latest", &digest[..70], &digest.to_uppercase()] {
            assert!(read("app:1", digest).is_err(), "{digest:?}");
        }
        assert!(BuildResult::read(b"[]").is_err());
        assert!(BuildResult::read(b"PK\x03\x04").is_err());
    }
}
