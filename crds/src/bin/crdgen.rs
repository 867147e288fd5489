//! `crdgen`: prints the CRDs as YAML, one document each. The same text is committed in `crds/yaml/`.

use std::process::ExitCode;

use data_platform_crds::crd;

fn main() -> ExitCode {
    for (_, crd) in crd::all() {
        match crd::to_yaml(&crd) {
            Ok(yaml) => print!("---\n{yaml}"),
            Err(error) => {
                eprintln!("crdgen: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
