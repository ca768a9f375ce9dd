//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs and ListConfigResources (keys 32, 33, 44, 74).
//!
//! What a key means, its default and where its value comes from stand in `cluster::config`; what may be set is the
//! controller's decision. Here resources are told apart and answers put into words.

use std::collections::{BTreeMap, BTreeSet};

use cluster::config::Described;
use cluster::controller::{
    AlterConfigs, Altered, ConfigChange, ConfigOp, Controller, Decision, SetConfigs,
};
use cluster::metadata::{Resource as ConfigResource, ResourceKind};
use env::Env;
use types::ErrorCode;
use wire::Str;
use wire::alter_configs::{self, AlterConfigsRequest, AlterConfigsResponse};
use wire::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use wire::incremental_alter_configs::{
    AlterConfigsResourceResponse, AlterableConfig, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use wire::list_config_resources::{
    ConfigResource as ConfigResourceListed, ListConfigResourcesRequest, ListConfigResourcesResponse,
};

use super::topics::check_name;
use super::{Reply, error_fields};
use crate::config::Audience;
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::error_map::Refused;
use crate::shared::{Shared, View};

/// Kafka's number of the resource that holds the levels of a broker's loggers.
const BROKER_LOGGER: i8 = 8;
/// Kafka's number of a subscription to client metrics.
const CLIENT_METRICS: i8 = ResourceKind::ClientMetrics as i8;
/// The kinds of resources that are listed, in the order of their listing.
const LISTED: [i8; 5] = [
    ResourceKind::Group as i8,
    CLIENT_METRICS,
    BROKER_LOGGER,
    ResourceKind::Broker as i8,
    ResourceKind::Topic as i8,
];

/// DescribeConfigs.
pub(super) async fn describe_configs<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: DescribeConfigsRequest,
) -> Reply<DescribeConfigsResponse> {
    let (synonyms, documentation) = (request.include_synonyms, request.include_documentation);
    // Once each: a short name stands for all that can be set on it.
    let mut seen = BTreeSet::new();
    let mut is_new = |asked: &DescribeConfigsResource| {
        seen.insert((asked.resource_type, asked.resource_name.clone()))
    };
    let resources = request.resources.into_iter().filter(|asked| is_new(asked));
    let results = resources.map(|asked| {
        let described = describe(ctx, broker, &asked);
        let (described, result) = match described {
            Ok(described) => (described, Ok(())),
            Err(refused) => (Vec::new(), Err(refused)),
        };
        let (error_code, error_message) = error_fields(result);
        let is_wanted = |described: &Described| match &asked.configuration_keys {
            Some(keys) if !keys.is_empty() => keys.iter().any(|key| **key == *described.key.name),
            _ => true,
        };
        let wanted = described.into_iter().filter(is_wanted);
        DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: asked.resource_type,
            configs: wanted.map(|one| told(one, synonyms, documentation)).collect(),
            resource_name: asked.resource_name,
        }
    });
    let results = results.collect();
    Reply::Now(DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() })
}

fn describe<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    asked: &DescribeConfigsResource,
) -> Result<Vec<Described>, Refused> {
    let name = &*asked.resource_name;
    let kind = ResourceKind::from_i8(asked.resource_type)
        .ok_or_else(|| unknown_kind(asked.resource_type))?;
    check_access(ctx, kind, name, Operation::DescribeConfigs)?;
    let view = broker.view();
    let node = &view.settings.node;
    match kind {
        ResourceKind::Topic => {
            check_name(name)?;
            if view.topic(name).is_none() {
                return Err(ErrorCode::UnknownTopicOrPartition.into());
            }
            Ok(node.describe_topic(&view.image.config(&ConfigResource::topic(name))))
        }
        ResourceKind::Broker if name.is_empty() => Ok(node.describe_cluster()),
        ResourceKind::Broker if *name == broker.broker_id().to_string() => {
            Ok(node.describe_broker())
        }
        ResourceKind::Broker => {
            let expected = broker.broker_id();
            let message = match name.parse::<i32>() {
                Ok(id) => format!(
                    "Unexpected broker id, expected {expected} or empty string, but received {id}"
                ),
                Err(_) => format!("Broker id must be an integer, but it is: {name}"),
            };
            Err(Refused::new(ErrorCode::InvalidRequest, message))
        }
        ResourceKind::Group if name.is_empty() => {
            Err(Refused::new(ErrorCode::InvalidRequest, "Group name must not be empty"))
        }
        ResourceKind::Group => {
            Ok(node.describe_group(&view.image.config(&ConfigResource::group(name))))
        }
        ResourceKind::ClientMetrics if name.is_empty() => {
            let message = "Client metrics subscription name must not be empty";
            Err(Refused::new(ErrorCode::InvalidRequest, message))
        }
        ResourceKind::ClientMetrics => {
            let resource = ConfigResource { kind, name: asked.resource_name.clone() };
            Ok(node.describe_client_metrics(&view.image.config(&resource)))
        }
    }
}

fn told(one: Described, synonyms: bool, documentation: bool) -> DescribeConfigsResourceResult {
    let shown = if synonyms { one.synonyms } else { Vec::new() };
    DescribeConfigsResourceResult {
        name: one.key.name.into(),
        value: one.value.map(Into::into),
        read_only: one.is_read_only,
        config_source: one.source as i8,
        is_sensitive: one.key.is_sensitive(),
        synonyms: shown
            .into_iter()
            .map(|synonym| DescribeConfigsSynonym {
                name: synonym.name.into(),
                value: synonym.value.map(Into::into),
                source: synonym.source as i8,
            })
            .collect(),
        config_type: one.key.kind as i8,
        documentation: documentation.then(|| one.key.explained().into()),
    }
}

fn unknown_kind(number: i8) -> Refused {
    let message = match number {
        BROKER_LOGGER => "levels of loggers cannot be told or changed at run time".to_owned(),
        _ => format!("Unsupported resource type: {number}"),
    };
    Refused::new(ErrorCode::InvalidRequest, message)
}

fn check_access(
    ctx: &RequestContext,
    kind: ResourceKind,
    name: &str,
    operation: Operation,
) -> Result<(), Refused> {
    let resource = match kind {
        ResourceKind::Topic => Resource::Topic(name),
        ResourceKind::Group => Resource::Group(name),
        ResourceKind::Broker | ResourceKind::ClientMetrics => Resource::Cluster,
    };
    authorize(ctx, operation, resource).map_err(|denied| denied.code.into())
}

/// IncrementalAlterConfigs.
pub(super) async fn incremental_alter_configs<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: IncrementalAlterConfigsRequest,
) -> Reply<IncrementalAlterConfigsResponse> {
    let validate_only = request.validate_only;
    let asked = request.resources.into_iter().map(|asked| Asked {
        kind: asked.resource_type,
        name: asked.resource_name,
        change: asked.configs,
    });
    let answered = alter(ctx, broker, asked.collect(), steps, move |controller, changes| {
        controller.incremental_alter_configs(changes, validate_only)
    });
    let responses = answered.await.into_iter().map(|((resource_type, resource_name), result)| {
        let (error_code, error_message) = error_fields(result);
        AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name }
    });
    let responses = responses.collect();
    Reply::Now(IncrementalAlterConfigsResponse { responses, ..Default::default() })
}

/// AlterConfigs: what is not named of a resource goes back to its default.
pub(super) async fn alter_configs<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: AlterConfigsRequest,
) -> Reply<AlterConfigsResponse> {
    let validate_only = request.validate_only;
    let asked = request.resources.into_iter().map(|asked| Asked {
        kind: asked.resource_type,
        name: asked.resource_name,
        change: asked.configs,
    });
    let answered = alter(ctx, broker, asked.collect(), whole, move |controller, changes| {
        controller.alter_configs(changes, validate_only)
    });
    let responses = answered.await.into_iter().map(|((resource_type, resource_name), result)| {
        let (error_code, error_message) = error_fields(result);
        alter_configs::AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type,
            resource_name,
        }
    });
    Reply::Now(AlterConfigsResponse { responses: responses.collect(), ..Default::default() })
}

/// A resource as the wire names it: kind and name.
type Named = (i8, Str);

/// A resource, and what is to become of it.
struct Asked<C> {
    kind: i8,
    name: Str,
    change: C,
}

/// Has the controller decide with `decide` on what `understand` makes of each resource. Every resource is answered, in the
/// order of asking; one that is named twice is refused each time, whatever else becomes of it.
async fn alter<E: Env, C, R: Send + 'static>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    asked: Vec<Asked<C>>,
    understand: fn(ConfigResource, C) -> Result<R, Refused>,
    decide: impl FnOnce(&Controller, &[R]) -> Decision<Altered> + Send + 'static,
) -> Vec<(Named, Result<(), Refused>)> {
    let mut counts: BTreeMap<Named, usize> = BTreeMap::new();
    for Asked { kind, name, .. } in &asked {
        *counts.entry((*kind, name.clone())).or_default() += 1;
    }
    // Who was not refused is the controller's to answer.
    let mut answers: Vec<(Named, Option<Refused>)> = Vec::new();
    let mut changes = Vec::new();
    for Asked { kind, name, change } in asked {
        let key = (kind, name);
        let understood = match counts.get(&key) {
            Some(1) => alterable(ctx, broker, kind, &key.1)
                .and_then(|kind| understand(ConfigResource { kind, name: key.1.clone() }, change)),
            _ => {
                let message = "Each resource must appear at most once.";
                Err(Refused::new(ErrorCode::InvalidRequest, message))
            }
        };
        answers.push((key, understood.map(|change| changes.push(change)).err()));
    }
    let altered = match changes.is_empty() {
        true => Ok(Vec::new()),
        false => broker.metadata().change(move |controller| decide(controller, &changes)).await,
    };
    let mut altered = altered.map(Vec::into_iter);
    let answers = answers.into_iter().map(|(key, refused)| {
        let result = match (refused, &mut altered) {
            (Some(refused), _) => Err(refused),
            (None, Ok(altered)) => {
                // Each is named once, so the answers come in the same order.
                let (_, result) = altered.next().expect("the controller answers each resource");
                result.map_err(Into::into)
            }
            (None, Err(error)) => Err((*error).into()),
        };
        (key, result)
    });
    answers.collect()
}

/// The kind of a resource that this principal may alter here.
fn alterable<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    number: i8,
    name: &str,
) -> Result<ResourceKind, Refused> {
    let kind = ResourceKind::from_i8(number).ok_or_else(|| match number {
        BROKER_LOGGER => unknown_kind(number),
        _ => Refused::new(ErrorCode::InvalidRequest, format!("Unknown resource type {number}")),
    })?;
    check_access(ctx, kind, name, Operation::AlterConfigs)?;
    let expected = broker.broker_id();
    match name.parse::<i32>() {
        // A broker takes changes of its own settings only, and of those that all share; the controller takes those of all.
        Ok(id)
            if kind == ResourceKind::Broker
                && id != expected.0
                && ctx.listener.audience == Audience::Clients =>
        {
            let message = format!("Unexpected broker id, expected {expected}, but received {id}");
            Err(Refused::new(ErrorCode::InvalidRequest, message))
        }
        _ => Ok(kind),
    }
}

/// A change in steps.
fn steps(resource: ConfigResource, configs: Vec<AlterableConfig>) -> Result<AlterConfigs, Refused> {
    let mut changes = Vec::with_capacity(configs.len());
    for config in configs {
        let op = ConfigOp::from_i8(config.config_operation).ok_or_else(|| {
            let message = format!("Unknown operation type {}", config.config_operation);
            Refused::new(ErrorCode::InvalidRequest, message)
        })?;
        changes.push(ConfigChange { name: config.name, op, value: config.value });
    }
    Ok(AlterConfigs { resource, changes })
}

/// A change of everything at once.
fn whole(
    resource: ConfigResource,
    configs: Vec<alter_configs::AlterableConfig>,
) -> Result<SetConfigs, Refused> {
    let values = configs.into_iter().map(|config| (config.name, config.value)).collect();
    Ok(SetConfigs { resource, values })
}

/// ListConfigResources: what has settings, or could have them.
pub(super) async fn list_config_resources<E: Env>(
    ctx: &RequestContext,
    broker: &Shared<E>,
    request: ListConfigResourcesRequest,
) -> Reply<ListConfigResourcesResponse> {
    let refuse = |code: ErrorCode| {
        Reply::Now(ListConfigResourcesResponse { error_code: code.as_i16(), ..Default::default() })
    };
    if let Err(denied) = authorize(ctx, Operation::DescribeConfigs, Resource::Cluster) {
        return refuse(denied.code);
    }
    // Version 0 knows subscriptions to client metrics only, and has no place to ask for another kind.
    let kinds: &[i8] = if ctx.api_version == 0 { &[CLIENT_METRICS] } else { &LISTED };
    if request.resource_types.iter().any(|asked| !kinds.contains(asked)) {
        return refuse(ErrorCode::UnsupportedVersion);
    }
    let is_asked =
        |kind| request.resource_types.is_empty() || request.resource_types.contains(&kind);
    let view = broker.view();
    let listed = kinds.iter().filter(|kind| is_asked(**kind)).flat_map(|kind| {
        let names = names_of(&view, *kind).into_iter();
        names.map(|resource_name| ConfigResourceListed { resource_name, resource_type: *kind })
    });
    let config_resources = listed.collect();
    Reply::Now(ListConfigResourcesResponse { config_resources, ..Default::default() })
}

/// The resources of one kind: all topics and brokers there are, and of the rest those that have a value of their own.
fn names_of<E: Env>(view: &View<E>, kind: i8) -> Vec<Str> {
    let image = &view.image;
    match (ResourceKind::from_i8(kind), kind) {
        (Some(ResourceKind::Topic), _) => {
            view.topics().map(|topic| topic.name.clone().into()).collect()
        }
        (Some(ResourceKind::Broker), _) | (None, BROKER_LOGGER) => {
            image.brokers().map(|info| info.id.to_string().into()).collect()
        }
        (Some(kind), _) => {
            let configured = image.configured().filter(|(resource, _)| resource.kind == kind);
            configured.map(|(resource, _)| resource.name.clone()).collect()
        }
        (None, _) => Vec::new(),
    }
}
