// Calls every method of the official Node client that Tunesmith serves, on a live server.
// The first argument is the base URL; prints the names of the methods that were called, as JSON.
import assert from "node:assert/strict";
import { createHash, createHmac, randomBytes } from "node:crypto";
import OpenAI, { toFile } from "openai";

const client = new OpenAI({
  baseURL: `${process.argv[2]}/v1`,
  apiKey: "unused",
  adminAPIKey: "unused",
  maxRetries: 2,
});
const called = new Set();

// Each resource, so wrapped that the names of its called methods are noted.
function watched(resource, name) {
  return new Proxy(resource, {
    get(target, key) {
      const value = target[key];
      if (typeof value !== "function") return value;
      return (...given) => {
        called.add(`${name}.${key}`);
        return value.apply(target, given);
      };
    },
  });
}

const files = watched(client.files, "files");
const uploads = watched(client.uploads, "uploads");
const parts = watched(client.uploads.parts, "uploads.parts");
const jobs = watched(client.fineTuning.jobs, "fineTuning.jobs");
const checkpoints = watched(client.fineTuning.jobs.checkpoints, "fineTuning.jobs.checkpoints");
const permissions = watched(
  client.fineTuning.checkpoints.permissions,
  "fineTuning.checkpoints.permissions",
);
const models = watched(client.models, "models");
const webhooks = watched(client.webhooks, "webhooks");

const rows = Array.from({ length: 40 }, (_, n) => ({
  messages: [
    { role: "user", content: `Say ${n}` },
    { role: "assistant", content: `${n} and ${n}` },
  ],
}));
const content = rows.map((row) => JSON.stringify(row) + "\n").join("");

async function until(look, seconds) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await look();
    if (found) return found;
    assert(Date.now() < end, `${look} did not come true in ${seconds} s`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

async function collect(pages) {
  const found = [];
  for await (const item of pages) found.push(item);
  return found;
}

async function theFiles() {
  const file = await files.create({
    file: await toFile(Buffer.from(content), "node.jsonl"),
    purpose: "fine-tune",
    expires_after: { anchor: "created_at", seconds: 7200 },
  });
  assert.equal(file.bytes, Buffer.byteLength(content));
  assert.equal(file.expires_at, file.created_at + 7200);
  assert.deepEqual(await files.retrieve(file.id), file);
  assert.equal((await files.waitForProcessing(file.id)).status, "processed");
  assert.equal(await (await files.content(file.id)).text(), content);
  const listed = await collect(files.list({ purpose: "fine-tune", limit: 2, order: "asc" }));
  assert(listed.some((one) => one.id === file.id));
  return file;
}

async function theUploads() {
  const bytes = Buffer.from(content);
  const shape = { filename: "parts.jsonl", purpose: "fine-tune", mime_type: "text/jsonl" };
  const upload = await uploads.create({ ...shape, bytes: bytes.length });
  const half = Math.floor(bytes.length / 2);
  const [second, first] = await Promise.all(
    [bytes.subarray(half), bytes.subarray(0, half)].map(async (data) =>
      parts.create(upload.id, { data: await toFile(data, "part") }),
    ),
  );
  const whole = await uploads.complete(upload.id, {
    part_ids: [first.id, second.id],
    md5: createHash("md5").update(bytes).digest("hex"),
  });
  assert.equal(whole.status, "completed");
  assert.equal(await (await files.content(whole.file.id)).text(), content);
  const other = await uploads.create({ ...shape, bytes: 5 });
  assert.equal((await uploads.cancel(other.id)).status, "cancelled");
}

function create(file, epochs) {
  return jobs.create({
    model: "tiny",
    training_file: file.id,
    seed: 7,
    suffix: "node",
    metadata: { from: "node" },
    method: {
      type: "supervised",
      supervised: { hyperparameters: { n_epochs: epochs, batch_size: 2 } },
    },
  });
}

async function theJobs(file) {
  const long = await create(file, 50);
  await until(async () => (await jobs.retrieve(long.id)).status === "running", 120);
  assert.equal((await jobs.pause(long.id)).status, "paused");
  assert.notEqual((await jobs.resume(long.id)).status, "paused");
  assert.equal((await jobs.cancel(long.id)).status, "cancelled");
  const job = await create(file, 1);
  const mine = await collect(jobs.list({ limit: 1, metadata: { from: "node" } }));
  assert.deepEqual(mine.slice(0, 2).map((one) => one.id), [job.id, long.id]);
  const done = await until(async () => {
    const seen = await jobs.retrieve(job.id);
    return ["succeeded", "failed"].includes(seen.status) && seen;
  }, 120);
  assert.equal(done.status, "succeeded", JSON.stringify(done.error));
  const events = await collect(jobs.listEvents(job.id, { limit: 5 }));
  assert.equal(events.at(-1).message, `Created fine-tuning job: ${job.id}`);
  return done;
}

async function theCheckpoints(job) {
  const [newest] = await collect(checkpoints.list(job.id, { limit: 1 }));
  const name = newest.fine_tuned_model_checkpoint;
  assert.equal(name, `${job.fine_tuned_model}:ckpt-step-${newest.step_number}`);
  const given = await collect(permissions.create(name, { project_ids: ["neighbours"] }));
  assert.equal(given[0].project_id, "neighbours");
  const listed = await collect(permissions.list(name));
  assert.deepEqual(listed.map((one) => one.id), [given[0].id]);
  assert.equal((await permissions.retrieve(name)).data.length, 1);
  const gone = await permissions.delete(given[0].id, { fine_tuned_model_checkpoint: name });
  assert.equal(gone.deleted, true);
  return name;
}

async function theModels(job, checkpoint) {
  const names = (await collect(models.list())).map((model) => model.id);
  assert(names.includes("tiny") && names.includes(job.fine_tuned_model));
  for (const name of ["tiny", job.fine_tuned_model, checkpoint]) {
    assert.equal((await models.retrieve(name)).id, name);
  }
  assert.equal((await models.delete(job.fine_tuned_model)).deleted, true);
  await assert.rejects(models.retrieve(job.fine_tuned_model), OpenAI.NotFoundError);
  await assert.rejects(models.delete("tiny"), OpenAI.PermissionDeniedError);
}

async function theWebhooks() {
  const key = randomBytes(32);
  const secret = `whsec_${key.toString("base64")}`;
  const body = JSON.stringify({ id: "evt_1", object: "event", type: "x", data: { id: "y" } });
  const at = Math.floor(Date.now() / 1000).toString();
  const signature = createHmac("sha256", key).update(`evt_1.${at}.${body}`).digest("base64");
  const headers = new Headers({
    "webhook-id": "evt_1",
    "webhook-timestamp": at,
    "webhook-signature": `v1,${signature}`,
  });
  assert.equal((await webhooks.unwrap(body, headers, secret)).id, "evt_1");
  await webhooks.verifySignature(body, headers, secret);
}

const file = await theFiles();
await theUploads();
const job = await theJobs(file);
await theModels(job, await theCheckpoints(job));
await theWebhooks();
assert.equal((await files.delete(file.id)).deleted, true);
await assert.rejects(files.retrieve(file.id), OpenAI.NotFoundError);
await assert.rejects(jobs.create({ model: "nobody", training_file: "file-x" }), (error) => {
  assert(error instanceof OpenAI.APIError);
  assert(error.requestID.startsWith("req_"));
  return true;
});

// What the client has of these resources and was not called is named too.
const resources = {
  files: client.files,
  uploads: client.uploads,
  "uploads.parts": client.uploads.parts,
  "fineTuning.jobs": client.fineTuning.jobs,
  "fineTuning.jobs.checkpoints": client.fineTuning.jobs.checkpoints,
  "fineTuning.checkpoints.permissions": client.fineTuning.checkpoints.permissions,
  models: client.models,
  webhooks: client.webhooks,
};
const missed = Object.entries(resources).flatMap(([name, resource]) =>
  Object.getOwnPropertyNames(Object.getPrototypeOf(resource))
    .filter((method) => method !== "constructor" && !method.startsWith("_"))
    .map((method) => `${name}.${method}`)
    .filter((method) => !called.has(method)),
);
console.log(JSON.stringify({ called: [...called].sort(), missed }));
