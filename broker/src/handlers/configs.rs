//! DescribeConfigs and IncrementalAlterConfigs (keys 32, 44).
//!
//! What a key means, its default and where its value comes from stand in `cluster::config`; what may be set is the
//! controller's decision. Here resources are told apart and answers put into words.

use std::collections::BTreeSet;

use cluster::config::Described;
use cluster::controller::{AlterConfigs, ConfigChange, ConfigOp};
use cluster::metadata::{Resource as ConfigResource, ResourceKind};
use env::Env;
use types::ErrorCode;
use wire::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use wire::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};

use super::topics::check_name;
use super::{Reply, error_fields};
use crate::context::{Operation, RequestContext, Resource, authorize};
use crate::error_map::Refused;
use crate::shared::Shared;

/// Kafka's number of the resource that holds the levels of a broker's loggers.
const BROKER_LOGGER: i8 = 8;

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
    let kind = kind_of(asked.resource_type)?;
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
        ResourceKind::ClientMetrics => Err(Refused::new(
            ErrorCode::InvalidRequest,
            "client metrics subscriptions are not there yet",
        )),
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

fn kind_of(number: i8) -> Result<ResourceKind, Refused> {
    ResourceKind::from_i8(number).ok_or_else(|| {
        let message = match number {
            BROKER_LOGGER => "levels of loggers cannot be told or changed at run time".to_owned(),
            _ => format!("Unsupported resource type: {number}"),
        };
        Refused::new(ErrorCode::InvalidRequest, message)
    })
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
    let mut responses = Vec::with_capacity(request.resources.len());
    let mut changes = Vec::new();
    for asked in request.resources {
        let answer = |result| {
            let (error_code, error_message) = error_fields(result);
            AlterConfigsResourceResponse {
                error_code,
                error_message,
                resource_type: asked.resource_type,
                resource_name: asked.resource_name.clone(),
            }
        };
        match change(ctx, &asked) {
            Ok(change) => changes.push(change),
            Err(refused) => responses.push(answer(Err(refused))),
        }
    }
    let resources: Vec<ConfigResource> =
        changes.iter().map(|change| change.resource.clone()).collect();
    let altered = broker
        .metadata()
        .change(move |controller| controller.incremental_alter_configs(&changes, validate_only))
        .await;
    let results: Vec<(ConfigResource, Result<(), Refused>)> = match altered {
        Ok(altered) => altered
            .into_iter()
            .map(|(resource, result)| (resource, result.map_err(Into::into)))
            .collect(),
        Err(error) => resources.into_iter().map(|resource| (resource, Err(error.into()))).collect(),
    };
    responses.extend(results.into_iter().map(|(resource, result)| {
        let (error_code, error_message) = error_fields(result);
        AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: resource.kind as i8,
            resource_name: resource.name,
        }
    }));
    Reply::Now(IncrementalAlterConfigsResponse { responses, ..Default::default() })
}

fn change(ctx: &RequestContext, asked: &AlterConfigsResource) -> Result<AlterConfigs, Refused> {
    let kind = kind_of(asked.resource_type)?;
    check_access(ctx, kind, &asked.resource_name, Operation::AlterConfigs)?;
    let mut changes = Vec::with_capacity(asked.configs.len());
    for config in &asked.configs {
        let op = ConfigOp::from_i8(config.config_operation).ok_or_else(|| {
            let message = format!("Unknown operation type {}", config.config_operation);
            Refused::new(ErrorCode::InvalidRequest, message)
        })?;
        changes.push(ConfigChange { name: config.name.clone(), op, value: config.value.clone() });
    }
    let resource = ConfigResource { kind, name: asked.resource_name.clone() };
    Ok(AlterConfigs { resource, changes })
}
