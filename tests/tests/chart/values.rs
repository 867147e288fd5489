//! What the chart refuses, and that the message names the key.

use super::{needs, run, template};

/// Values that cannot be, and words that the message must have.
const REFUSED: [(&[&str], &str); 33] = [
    (&["--set", "replicsa=2"], "'replicsa' not allowed"),
    (&["--set", "runner.imgae.tag=1"], "'imgae' not allowed"),
    (&["--set", "storage.create.sise=1Gi"], "'sise' not allowed"),
    (&["--set", "leaderElection.leaseDuratoin=15s"], "'leaseDuratoin' not allowed"),
    (&["--set", "metrics.podMonitor.lables.a=b"], "'lables' not allowed"),
    (&["--set", "crds.enable=false"], "'enable' not allowed"),
    (&["--set", "resources.limit.memory=1Gi"], "'limit' not allowed"),
    (&["--set", "imagePullSecrets[0].nmae=a"], "'nmae' not allowed"),
    (&["--set", "replicas=many"], "/replicas"),
    (&["--set", "runner.rollout=always"], "/runner/rollout"),
    (&["--set", "image.digest=0123"], "/image/digest"),
    (&["--set", "leaderElection.leaseDuration=15"], "/leaderElection/leaseDuration"),
    (&["--set", "watchNamespaces[0]=Orders"], "/watchNamespaces/0"),
    (&["--set", "storage.outputs=bucket"], "/storage/outputs"),
    (&["--set", "watchNamespaces={*,orders}"], "watchNamespaces: \"*\" means all namespaces"),
    (&["--set", "replicas=2,leaderElection.enabled=false"], "replicas: more than one needs leaderElection.enabled"),
    (&["--set", "metrics.podMonitor.enabled=true,metrics.serviceMonitor.enabled=true"], "one of them is enough"),
    (&["--set", "storage.outputs=file:///mnt/outputs"], "set both URLs, or none"),
    (
        &["--set", "storage.claimName=a,storage.outputs=file:///o,storage.checkpoints=file:///c"],
        "a claim or URLs, not both",
    ),
    (&["--set", "storage.outputs=s3a://b/o,storage.checkpoints=s3://b/c"], "/storage/outputs"),
    (&["--set", "storage.outputs=s3://k:s@b/o,storage.checkpoints=s3://b/c"], "/storage/outputs"),
    (&["--set", "storage.endpoint=minio:9000"], "/storage/endpoint"),
    (&["--set", "runner.defaultResources.limits.memory=lots"], "/runner/defaultResources/limits/memory"),
    (&["--set", "resources.requests.cpu=much"], "/resources/requests/cpu"),
    (&["--set", "leaderElection.renewDeadline=20s"], "renewDeadline: 20s is not shorter than leaseDuration 15s"),
    (&["--set", "leaderElection.leaseDuration=9500ms"], "renewDeadline: 10s is not shorter than leaseDuration 9500ms"),
    (&["--set", "leaderElection.retryPeriod=1m"], "retryPeriod: 1m is not shorter than renewDeadline 10s"),
    (&["--set", "runner.pod.nodeselector.a=b"], "'nodeselector' not allowed"),
    (&["--set", "runner.pod.securityContext.runAsUser=0"], "/runner/pod/securityContext/runAsUser"),
    (&["--set", "pages.authentication.secret=a"], "'secret' not allowed"),
    (&["--set", "pages.authentication.secretName=A b"], "/pages/authentication/secretName"),
    (&["--set", "pages.authentication.secretKey=a/b"], "/pages/authentication/secretKey"),
    (&["--set", "runner.pod.env[0].nam=A"], "'nam' not allowed"),
];

#[test]
fn a_mistyped_key_and_an_impossible_value_are_refused_and_named() -> anyhow::Result<()> {
    let helm = needs!(helm);
    for (arguments, expected) in REFUSED {
        let output = run(&mut template(&helm, arguments))?;
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?} passed");
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
    Ok(())
}

#[test]
fn an_old_kubernetes_is_refused() -> anyhow::Result<()> {
    let helm = needs!(helm);
    let output = run(template(&helm, &[]).args(["--kube-version", "1.29.9"]))?;
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("kubeVersion: >=1.30"), "{message}");
    Ok(())
}
