//! `binary_size` and `image_size`: what is shipped.

use crate::figure::{Answer, Error, Measured};
use crate::support::program::EXE;
use std::process::{Command, Stdio};
use tokio::runtime::Runtime;

pub fn measure(_: &Runtime) -> Result<Vec<Answer>, Error> {
    let bytes = std::fs::metadata(EXE)?.len();
    Ok(vec![Answer::Measured(Measured::exactly("binary_size", bytes as f64, 1)), image()?])
}

fn image() -> Result<Answer, Error> {
    const NAME: &str = "image_size";
    const TAG: &str = "ops-controller:figures";
    let engine = Command::new("docker").args(["info"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !engine.is_ok_and(|status| status.success()) {
        return Ok(Answer::Skipped(NAME, "no docker engine here; install and start Docker".to_owned()));
    }
    let root = env!("CARGO_MANIFEST_DIR");
    let built = Command::new("docker")
        .args(["build", "--file", "docker/Dockerfile", "--tag", TAG, "."])
        .current_dir(root)
        .stdout(std::io::stderr())
        .status()?;
    if !built.success() {
        return Err("docker build failed".into());
    }
    let size = Command::new("docker").args(["image", "inspect", "--format", "{{.Size}}", TAG]).output()?;
    let bytes: f64 = String::from_utf8(size.stdout)?.trim().parse()?;
    Ok(Answer::Measured(Measured::exactly(NAME, bytes, 1)))
}
