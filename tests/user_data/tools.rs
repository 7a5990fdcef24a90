//! The droplet's own tools read what was rendered: sh, shellcheck, cloud-init, compose, nginx, nft.
//!
//! A tool that is not installed is named on stderr and its test passes.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ops_controller::plan::user_data::{COMPOSE_FILE, ENV_FILE};
use serde_json::Value;
use tempfile::TempDir;

use super::{document, env, example, file, files, text};

/// Runs a tool and returns its output; `None`, said aloud, when it is not installed.
fn run(program: &str, arguments: &[&str]) -> Option<(bool, String)> {
    match Command::new(program).args(arguments).stdin(Stdio::null()).output() {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: {program} is not installed");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// Writes the droplet's files below a temporary folder, at their own paths.
fn droplet() -> (TempDir, Vec<PathBuf>) {
    let root = tempfile::tempdir().expect("a temporary folder");
    let paths = files(&text(&example()))
        .into_iter()
        .map(|(path, _, content)| {
            let path = root.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
            fs::write(&path, content).expect("a file");
            path
        })
        .collect();
    (root, paths)
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn with_extension(paths: &[PathBuf], extension: &str) -> Vec<PathBuf> {
    paths.iter().filter(|p| p.extension().is_some_and(|e| e == extension)).cloned().collect()
}

#[test]
fn every_script_parses_as_posix_sh_and_pleases_shellcheck() {
    let (_root, paths) = droplet();
    let scripts = with_extension(&paths, "sh");
    assert_eq!(scripts.len(), 2);
    for script in &scripts {
        let (ok, said) = run("sh", &["-n", path_text(script)]).expect("sh is everywhere");
        assert!(ok, "{said}");
        if let Some((ok, said)) = run("shellcheck", &["-s", "sh", path_text(script)]) {
            assert!(ok, "{said}");
        }
    }
}

#[test]
fn cloud_init_accepts_the_document() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("user-data");
    fs::write(&path, text(&example())).expect("a file");
    if let Some((ok, said)) = run("cloud-init", &["schema", "--config-file", path_text(&path)]) {
        assert!(ok, "{said}");
    }
}

#[test]
fn a_yaml_reader_reads_back_exactly_what_was_meant() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("user-data");
    let data = super::UserData { worker_token: r##"a"b$c`d` # e: {f} [g] %h @i !j *k &l"##, ..example() };
    fs::write(&path, text(&data)).expect("a file");
    let reader = "import json, sys\n\
                  try:\n    import yaml\n\
                  except ImportError:\n    sys.exit(3)\n\
                  print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    match run("python3", &["-c", reader, path_text(&path)]) {
        Some((true, said)) => {
            let read: Value = serde_json::from_str(&said).expect("JSON");
            assert_eq!(read, document(&text(&data)));
        }
        Some((false, said)) if said.is_empty() => eprintln!("skipped: PyYAML is not installed"),
        Some((false, said)) => panic!("{said}"),
        None => {}
    }
}

#[test]
fn docker_compose_accepts_the_project_and_reads_the_values_literally() {
    let (root, _) = droplet();
    let secret = r##"a"b$c${D}`e` # f"##;
    let env_path = root.path().join(ENV_FILE.trim_start_matches('/'));
    fs::write(&env_path, env(&super::UserData { worker_token: secret, ..example() })).expect("a file");
    // The project names the env file by its place on the droplet.
    let project = root.path().join(COMPOSE_FILE.trim_start_matches('/'));
    let moved = fs::read_to_string(&project).expect("a file").replace(ENV_FILE, path_text(&env_path));
    fs::write(&project, moved).expect("a file");
    if !matches!(run("docker", &["compose", "version"]), Some((true, _))) {
        eprintln!("skipped: the docker compose plugin is not installed");
        return;
    }
    let arguments = ["compose", "--file", path_text(&project), "config", "--format", "json"];
    let (ok, said) = run("docker", &arguments).expect("docker is installed");
    assert!(ok, "{said}");
    let config: Value = serde_json::from_str(&said).expect("JSON");
    // On its way out compose doubles every dollar, so that its output can be read again.
    let read = config["services"]["supervisor"]["environment"]["TRIGGER_WORKER_TOKEN"].clone();
    assert_eq!(read.as_str().expect("a text").replace("$$", "$"), secret);
}

#[test]
fn systemd_accepts_the_units() {
    let (_root, paths) = droplet();
    for unit in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "service" || e == "timer")) {
        let Some((_, said)) = run("systemd-analyze", &["verify", path_text(unit)]) else {
            return;
        };
        // What the units name is on the droplet, not here; an older systemd lacks the back-off keys.
        let complaint = said.lines().find(|line| {
            let about_this = line.contains("trigger-supervisor");
            let absent = ["not executable", "not found", "RestartSteps", "RestartMaxDelaySec"];
            about_this && !absent.iter().any(|known| line.contains(known))
        });
        assert_eq!(complaint, None);
    }
}

#[test]
fn nft_accepts_the_metadata_block_twice() {
    let (root, _) = droplet();
    let rules = root.path().join("opt/trigger-supervisor/metadata-block.nft");
    let script = format!("nft -f {0} && nft -f {0} && nft list ruleset", path_text(&rules));
    // A network namespace of its own: this machine's rules are not touched.
    let Some((ok, said)) = run("unshare", &["--net", "sh", "-c", &script]) else {
        return;
    };
    if said.contains("nft: not found") || said.contains("Operation not permitted") {
        eprintln!("skipped: nft or network namespaces are not available");
        return;
    }
    assert!(ok, "{said}");
    assert_eq!(said.matches("169.254.169.254").count(), 1, "{said}");
}

/// Stops the proxy when the test ends, however it ends.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        // Asked to quit, nginx ends its worker too; killed, it would leave it behind.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Answers every request with 200 and what it was asked, as the workload API would.
fn workload_api() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or(0);
            let head = String::from_utf8_lossy(&request[..read]).into_owned();
            let answer = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

fn ask(port: u16, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn defect_30_the_health_proxy_passes_health_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (outside, inside) = (free_port(), workload_api());
    let conf = file(&text(&example()), "/opt/trigger-supervisor/health.conf")
        .replace("listen 8020", &format!("listen 127.0.0.1:{outside}"))
        .replace("http://supervisor:8020", &format!("http://127.0.0.1:{inside}"))
        .replace("/tmp/", &format!("{}/", path_text(folder.path())));
    let path = folder.path().join("nginx.conf");
    fs::write(&path, conf).expect("a file");
    let arguments = ["-c", path_text(&path), "-g", "daemon off;"];
    let Ok(child) = Command::new("nginx").args(arguments).stderr(Stdio::null()).spawn() else {
        eprintln!("skipped: nginx is not installed");
        return;
    };
    let _proxy = Proxy(child);
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", outside)).is_err() {
        assert!(Instant::now() < deadline, "the proxy does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }

    let status = |line: &str| {
        let request = format!("{line} HTTP/1.0\r\nAuthorization: Bearer x\r\n\r\n");
        let answer = ask(outside, &request).expect("an answer");
        let code = answer.split(' ').nth(1).expect("a status").to_owned();
        (code, answer)
    };
    let (code, answer) = status("GET /health?run=1");
    assert_eq!(code, "200");
    assert!(answer.contains("GET /health HTTP"), "the query is not passed on: {answer}");
    assert!(!answer.contains("Bearer"), "headers are not passed on: {answer}");
    for (line, expected) in [
        ("GET /", "404"),
        ("GET /healthz", "404"),
        ("GET /health/", "404"),
        ("GET /health/../api/v1/workload-actions/deployments/x/dequeue", "404"),
        ("GET /api/v1/workload-actions/deployments/x/dequeue", "404"),
        ("POST /api/v1/workload-actions/runs/x/snapshots/y/attempts/start", "404"),
        ("GET /socket.io/?EIO=4&transport=polling", "404"),
        ("POST /health", "403"),
        ("DELETE /health", "403"),
    ] {
        let (code, answer) = status(line);
        assert_eq!(code, expected, "{line}: {answer}");
    }
}
