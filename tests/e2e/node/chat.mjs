// Chats by the official client, whole and streamed, and prints what came of it as JSON.
import OpenAI from "openai";

const [url, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "unused" });
const asked = {
  model,
  messages: [{ role: "user", content: "What is the capital of France?" }],
  temperature: 0,
};

const whole = await client.chat.completions.create(asked);
let streamed = "";
let pieces = 0;
for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
  const text = chunk.choices[0]?.delta?.content ?? "";
  streamed += text;
  pieces += text ? 1 : 0;
}
let refused;
try {
  await client.chat.completions.create({ ...asked, model: "nobody" });
} catch (error) {
  refused = error.status;
}
console.log(
  JSON.stringify({ whole: whole.choices[0].message.content, streamed, pieces, refused }),
);
