//! The operator is not there yet.

fn main() {
    eprintln!("data-platform-operator: not there yet; run jobs with `data-platform run -f JOB.yaml`");
    std::process::exit(1);
}
