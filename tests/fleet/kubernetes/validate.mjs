// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Holdfast authors

// Reads a JSON array of Kubernetes objects from standard input, and prints a line for each fault. The API's schemas check
// the values. Its types check the names, because the schemas accept unknown names. Exit status 1: there were faults. Runs
// in the folder in which npm has installed the packages of package.json.

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
