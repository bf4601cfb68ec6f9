// Makes the replica set, its roles and its users. Run it once, by mongosh on the first member's own
// machine (the localhost exception lets in whoever makes the first user, then never again):
//
//   mongosh "mongodb://127.0.0.1:27017/?directConnection=true" --tls \
//     --tlsCAFile ca.pem --tlsCertificateKeyFile operator.pem rs-initiate.js
//
// The certificate of a member must name 127.0.0.1 in its SubjectAltName too.

const REPLICA_SET = process.env.LOVE_REPLICA_SET || "love-europe";
const MEMBERS = [
  "mongo-1.love.internal:27017",
  "mongo-2.love.internal:27017",
  "mongo-3.love.internal:27017",
];

// Subjects as RFC 2253 writes them. OU=clients, since OU=members would be a member with every right.
const OPERATOR = "CN=operator,OU=clients,O=Love Currency Federation";
const PERSIST = "CN=persist,OU=clients,O=Love Currency Federation";
const KEY_ROTATION = "CN=key-rotation,OU=clients,O=Love Currency Federation";

const DATABASE = "love_currency_db";
const VAULT = "encryption";

const onEach = (db, collections, actions) =>
  collections.map((collection) => ({ resource: { db, collection }, actions }));

// The roles of infrastructure/terraform/atlas. Insert-only: nobody here may change or remove a
// transaction, a rejection, an outcome or a key's name; work entries (pending) are no data.
const ROLES = {
  love_persist: [
    ...onEach(DATABASE, ["transactions"], ["find", "insert", "createIndex"]),
    ...onEach(DATABASE, ["rejections"], ["find", "insert"]),
    ...onEach(DATABASE, ["finality"], ["find", "insert"]),
    ...onEach(DATABASE, ["canary", "pending"], ["find", "insert", "remove"]),
    ...onEach(VAULT, ["__keyVault", "keyNames"], ["find", "insert"]),
  ],
  // Rewrapping replaces a data key's wrapping; it never sees a transaction.
  love_key_rotation: onEach(VAULT, ["__keyVault"], ["find", "update"]),
};

rs.initiate({
  _id: REPLICA_SET,
  members: MEMBERS.map((host, _id) => ({ _id, host })),
  // A write counts once two of three have it on disk.
  writeConcernMajorityJournalDefault: true,
});
while (!db.hello().isWritablePrimary) {
  if (db.hello().primary && db.hello().primary !== db.hello().me) {
    throw new Error(`run this on ${db.hello().primary}: it was elected`);
  }
  sleep(500);
}

const external = db.getSiblingDB("$external");
const admin = db.getSiblingDB("admin");

external.runCommand({
  createUser: OPERATOR,
  roles: [
    { role: "userAdminAnyDatabase", db: "admin" },
    { role: "clusterAdmin", db: "admin" },
  ],
});
external.auth({ mechanism: "MONGODB-X509" });

for (const [role, privileges] of Object.entries(ROLES)) {
  admin.createRole({ role, privileges, roles: [] });
}
for (const [user, role] of [
  [PERSIST, "love_persist"],
  [KEY_ROTATION, "love_key_rotation"],
]) {
  external.runCommand({ createUser: user, roles: [{ role, db: "admin" }] });
}

// Whatever a client asks for, a write is acknowledged by a majority only.
admin.adminCommand({
  setDefaultRWConcern: 1,
  defaultWriteConcern: { w: "majority", wtimeout: 0 },
  defaultReadConcern: { level: "majority" },
});
