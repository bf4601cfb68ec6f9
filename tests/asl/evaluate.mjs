// Evaluates JSONata by its reference implementation: a line of JSON in (the expression), a line out.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const jsonata = createRequire(`${process.argv[2]}/`)("jsonata");

for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    const value = await jsonata(JSON.parse(line)).evaluate(null);
    answer = { value: value === undefined ? null : value };
  } catch (error) {
    answer = { error: `${error.code ?? ""} ${error.message}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
