//! Every pod of the chart fits the Pod Security Standard "restricted" and has what a pod should have.

use serde_json::{Value, json};

use super::{name, needs, objects, sets_of_values};

/// The pod in an object, if it has one.
fn pod(object: &Value) -> Option<&Value> {
    match object["kind"].as_str() {
        Some("Pod") => Some(&object["spec"]),
        Some("Deployment" | "Job") => Some(&object["spec"]["template"]["spec"]),
        _ => None,
    }
}

#[test]
fn every_pod_is_restricted() -> anyhow::Result<()> {
    let helm = needs!(helm);
    for values in sets_of_values()? {
        let objects = objects(&helm, &values)?;
        let pods: Vec<_> = objects.iter().filter_map(|object| Some((name(object), pod(object)?))).collect();
        assert!(!pods.is_empty());
        for (name, pod) in pods {
            let context = &pod["securityContext"];
            assert_eq!(context["runAsNonRoot"], true, "{values}: {name}");
            assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault", "{values}: {name}");
            assert!(context["runAsUser"].as_u64().is_some_and(|user| user > 0), "{values}: {name}");
            for forbidden in ["hostNetwork", "hostPID", "hostIPC"] {
                assert!(pod[forbidden].is_null(), "{values}: {name}: {forbidden}");
            }
            for container in pod["containers"].as_array().expect("containers") {
                let context = &container["securityContext"];
                assert_eq!(context["allowPrivilegeEscalation"], false, "{values}: {name}");
                assert_eq!(context["readOnlyRootFilesystem"], true, "{values}: {name}");
                assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}), "{values}: {name}");
                assert!(container["resources"]["limits"]["memory"].is_string(), "{values}: {name}");
                assert!(
                    container["image"].as_str().is_some_and(|image| !image.ends_with(":latest")),
                    "{values}: {name}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn only_the_operator_gets_a_token() -> anyhow::Result<()> {
    let helm = needs!(helm);
    for object in objects(&helm, "everything")? {
        match object["kind"].as_str() {
            Some("ServiceAccount") => assert_eq!(object["automountServiceAccountToken"], false, "{}", name(&object)),
            Some("Pod") => assert_eq!(object["spec"]["automountServiceAccountToken"], false, "{}", name(&object)),
            _ => {}
        }
    }
    Ok(())
}
