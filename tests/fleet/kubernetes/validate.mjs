// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Holdfast authors

// Reads Kubernetes objects, a JSON array, from standard input, and prints a line for each fault: of values by the schemas
// of the API, of names by its types, since the schemas let unknown names pass. Exit status 1 if there was one. Runs in
// the folder in which npm has put what package.json names.

import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.cwd(), "package.json"));
const objects = JSON.parse(readFileSync(0, "utf8"));
const faults = [];

for (const object of objects) {
  try {
    new (require(`kubernetes-models/${object.apiVersion}`)[object.kind])(object).validate();
  } catch (error) {
    faults.push(`${object.kind} ${object.metadata?.name}: ${error.message}`);
  }
}

const source = objects.map(({ apiVersion, kind, ...rest }, i) => `
import type { I${kind} as Type${i} } from "kubernetes-models/${apiVersion}";
export const object${i}: Type${i} = ${JSON.stringify({ apiVersion, kind, ...rest }, null, 1)};`);
writeFileSync("objects.ts", source.join("\n"));
const types = spawnSync(process.execPath, [
  "node_modules/typescript/bin/tsc", "--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext",
  "--pretty", "false", "objects.ts",
], { encoding: "utf8" });
if (types.status !== 0) faults.push(types.stdout + types.stderr);

console.log(faults.join("\n"));
process.exit(faults.length ? 1 : 0);
