//! The command line.

fn main() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("sandbox-droplet") {
        std::process::exit(sandbox_droplet(args));
    }
}

#[tokio::main(flavor = "current_thread")]
async fn sandbox_droplet(args: impl Iterator<Item = String>) -> i32 {
    ops_controller::sandbox::droplet::main(args).await
}
