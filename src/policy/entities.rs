//! Cedar's view of one request: principal and resource as entities, facts as context. Built for uncached decisions only.

use std::{collections::HashSet, sync::LazyLock};

use cedar_policy::{
    Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression as Expression,
};

use super::{Context, View, identities::Membership, schema};
use crate::{
    identity::{Identity, Kind},
    model::{Key, Purpose},
};

/// A caller as policies see him.
#[derive(Debug)]
pub(super) struct Principal {
    uid: EntityUid,
    entity: Entity,
    /// Ids of the environments he may reach; `None` for jobs, which are not bound to any.
    environments: Option<Box<[String]>>,
}

/// A resource as policies see it, present or absent.
pub(super) struct Target<'a> {
    /// Its entity type.
    pub(super) kind: &'static str,
    /// Its whole name, `system` for the system.
    pub(super) name: &'a str,
    pub(super) seen: Option<View<'a>>,
    /// Of its environment; an environment that does not exist counts as production.
    pub(super) production: bool,
}

impl Principal {
    pub(super) fn new(identity: &Identity, membership: Option<&Membership>) -> Self {
        if identity.kind == Kind::Job {
            let uid = uid("Job", &identity.actor.id);
            return Self {
                entity: Entity::new_no_attrs(uid.clone(), HashSet::new()),
                uid,
                environments: None,
            };
        }
        let none = Membership::default();
        let membership = membership.unwrap_or(&none);
        let uid_of = |kind| move |id: &String| Expression::new_entity_uid(uid(kind, id));
        let attributes = [
            (
                "environments",
                membership
                    .environments
                    .iter()
                    .map(uid_of("Environment"))
                    .collect::<Vec<_>>(),
            ),
            ("teams", membership.teams.iter().map(uid_of("Team")).collect()),
        ];
        let uid = uid("Workload", &identity.actor.id);
        Self {
            entity: entity(
                uid.clone(),
                attributes.map(|(name, set)| (name.to_owned(), Expression::new_set(set))),
                membership.roles.iter().map(|role| self::uid("Role", role)),
                [],
            ),
            uid,
            environments: Some(membership.environments.iter().cloned().collect()),
        }
    }

    /// Whether isolation lets him reach the named resource: false says that no policy can allow it.
    pub(super) fn reaches(&self, name: &str) -> bool {
        match (&self.environments, environment_id(name)) {
            (Some(environments), Some(id)) => environments.iter().any(|environment| environment == id),
            (None, _) | (_, None) => true,
        }
    }
}

/// The request and its entities.
pub(super) fn request(
    principal: &Principal,
    action: &'static str,
    target: &Target<'_>,
    context: &Context,
    ec_keys: &[String],
) -> (Request, Entities) {
    let ids: Vec<&str> = target.name.split('/').skip(1).step_by(2).collect();
    let mut entities = vec![principal.entity.clone()];
    let resource = match ids[..] {
        [] => uid("System", target.name),
        [environment] => uid(target.kind, environment),
        _ => uid(target.kind, &ids.join("/")),
    };
    debug_assert_eq!(ids.is_empty(), target.kind == "System");
    if let [environment, ..] = ids[..] {
        let of = uid("Environment", environment);
        let environment_attribute = || ("environment".to_owned(), Expression::new_entity_uid(of.clone()));
        let name_attribute = |name: &str| ("name".to_owned(), Expression::new_string(name.to_owned()));
        entities.push(entity(
            of.clone(),
            [
                environment_attribute(),
                name_attribute(environment),
                ("production".to_owned(), Expression::new_bool(target.production)),
            ],
            [],
            [],
        ));
        if let [_, team, ..] = ids[..] {
            let team_uid = uid("Team", &format!("{environment}/{team}"));
            entities.push(entity(
                team_uid.clone(),
                [environment_attribute(), name_attribute(team)],
                [of.clone()],
                [],
            ));
            if let [_, _, key] = ids[..] {
                let mut attributes = vec![
                    environment_attribute(),
                    name_attribute(key),
                    ("team".to_owned(), Expression::new_entity_uid(team_uid.clone())),
                ];
                let mut labels = Vec::new();
                if let Some(View::Key(key)) = target.seen {
                    attributes.extend(attributes_of(key));
                    let label =
                        |(name, value): (&String, &String)| (name.clone(), Expression::new_string(value.clone()));
                    labels = key.labels.iter().map(label).collect();
                }
                entities.push(entity(resource.clone(), attributes, [team_uid], labels));
            }
        }
    }
    let keys = ec_keys.iter().cloned().map(Expression::new_string);
    let [ec_keys, items, plaintext] = schema::CONTEXT;
    let context = cedar_policy::Context::from_pairs([
        (ec_keys.to_owned(), Expression::new_set(keys)),
        (items.to_owned(), Expression::new_long(context.items.into())),
        (
            plaintext.to_owned(),
            Expression::new_long(i64::try_from(context.plaintext_bytes).unwrap_or(i64::MAX)),
        ),
    ])
    .expect("the names of the facts are distinct");
    let request = Request::new(principal.uid.clone(), uid("Action", action), resource, context, None)
        .expect("without a schema there is nothing to refuse");
    let entities =
        Entities::from_entities(entities, None).expect("the entities of a request are distinct and in no cycle");
    (request, entities)
}

/// The id of the environment that a whole resource name begins with.
fn environment_id(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("envs/")?;
    Some(rest.split_once('/').map_or(rest, |(id, _)| id))
}

fn attributes_of(key: &Key) -> [(String, Expression); 2] {
    let purpose = match key.purpose {
        Purpose::EncryptDecrypt => "ENCRYPT_DECRYPT",
    };
    [
        ("owner".to_owned(), Expression::new_string(key.owner.clone())),
        ("purpose".to_owned(), Expression::new_string(purpose.to_owned())),
    ]
}

fn entity(
    uid: EntityUid,
    attributes: impl IntoIterator<Item = (String, Expression)>,
    parents: impl IntoIterator<Item = EntityUid>,
    tags: impl IntoIterator<Item = (String, Expression)>,
) -> Entity {
    Entity::new_with_tags(uid, attributes, parents, tags)
        .expect("attributes are literals, which cannot fail to evaluate")
}

/// Type names are parsed once; ids need no escaping.
fn uid(kind: &'static str, id: &str) -> EntityUid {
    static KINDS: LazyLock<Vec<(&'static str, EntityTypeName)>> = LazyLock::new(|| {
        [
            "Action",
            "Environment",
            "Job",
            "Key",
            "Role",
            "System",
            "Team",
            "Workload",
        ]
        .map(|name| (name, name.parse().expect("a plain word is a type name")))
        .to_vec()
    });
    let (_, kind) = KINDS
        .iter()
        .find(|(name, _)| *name == kind)
        .expect("every entity type of the schema is listed");
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}
