#[path = "../compressed/mod.rs"]
mod compressed;

use compressed::driver::*;
use std::sync::Arc;
use std::time::Duration;
use jiff::SignedDuration;

#[test]
fn probe() {
    let t = std::time::Instant::now();
    compressed(async {
        let d = Deployment::new(1, Duration::from_secs(60));
        let trace = Trace::default();
        let begun = d.world.now();
        let end = live(&d, tracing(trace.clone()), Arc::default(), SignedDuration::from_hours(6), is_settled).await;
        println!("{end:?} after {:#} {} points {:?}", d.world.now().duration_since(begun), trace.lock().unwrap().len(), d.world.counts());
        d.check_settled(&d.state()).unwrap();
    });
    println!("{:?}", t.elapsed());
    let t = std::time::Instant::now();
    for _ in 0..20 {
    compressed(async {
        let d = Deployment::new(1, Duration::from_secs(60));
        let _ = live(&d, ops_controller::clients::Seam::default(), Arc::default(), SignedDuration::from_hours(6), is_settled).await;
    });
    }
    println!("20: {:?}", t.elapsed());
}
