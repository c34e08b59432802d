#!/usr/bin/env node
// check.mjs FOLDER FILE…: holds manifests (YAML as helm writes it) against Kubernetes' published schemas and those of the Prometheus
// operator, and against the types made of them: the schemas know values, the types refuse fields that there are not. FOLDER is
// install.mjs's. Exit code 1, and what is wrong in which file, when one does not fit.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, ...files] = process.argv.slice(2).map((path) => resolve(path));
if (!folder || files.length === 0) {
  console.error("check.mjs: give a folder and at least one file");
  process.exit(64);
}
const { parseAllDocuments } = createRequire(join(folder, "package.json"))("yaml");
let failed = false;
const refuse = (where, why) => {
  failed = true;
  console.error(`${where}: ${why}`);
};

// Most are the same in many files.
const manifests = new Map();
for (const file of files) {
  const documents = parseAllDocuments(readFileSync(file, "utf8"));
  for (const document of documents) {
    for (const error of document.errors) {
      refuse(file, error.message);
    }
    const manifest = document.toJS();
    if (manifest !== null) {
      const where = `${file}: ${manifest.kind}/${manifest.metadata?.name}`;
      manifests.set(JSON.stringify(manifest), { where, manifest });
    }
  }
}
if (manifests.size === 0) {
  refuse(files.join(", "), "there is no manifest in it");
}

// The file of a kind in the published packages, without its ending.
const published = ({ apiVersion, kind }) => {
  const path = apiVersion === "monitoring.coreos.com/v1" ? `@kubernetes-models/prometheus-operator/${apiVersion}/${kind}` : `kubernetes-models/${apiVersion}/${kind}`;
  return existsSync(join(folder, "node_modules", `${path}.js`)) ? path : undefined;
};

const lines = [];
const places = [];
for (const { where, manifest } of manifests.values()) {
  const path = published(manifest);
  if (path === undefined) {
    refuse(where, `no published schema knows ${manifest.apiVersion} ${manifest.kind}`);
    continue;
  }
  const model = (await import(pathToFileURL(join(folder, "node_modules", `${path}.js`))))[manifest.kind];
  try {
    new model(manifest).validate();
  } catch (error) {
    refuse(where, error.message);
  }
  // A manifest is one line, so that the compiler's line tells which it is.
  places.push(where);
  lines.push(`(${JSON.stringify(manifest)}) satisfies import("./node_modules/${path}.js").I${manifest.kind};`);
}
writeFileSync(join(folder, "manifests.check.ts"), `${lines.join("\n")}\n`);
writeFileSync(
  join(folder, "tsconfig.json"),
  JSON.stringify({ compilerOptions: { strict: true, noEmit: true, skipLibCheck: true, target: "es2022", module: "preserve", moduleResolution: "bundler", types: [] }, files: ["manifests.check.ts"] }),
);
const tsc = spawnSync(process.execPath, [join(folder, "node_modules/typescript/bin/tsc"), "-p", folder, "--pretty", "false"], { cwd: folder, encoding: "utf8" });
if (tsc.status !== 0) {
  const told = [...tsc.stdout.matchAll(/^manifests\.check\.ts\((\d+),\d+\): (.*(?:\n .*)*)/gm)];
  for (const [, line, words] of told) {
    refuse(places[line - 1], words);
  }
  if (told.length === 0) {
    refuse("the types' compiler", `${tsc.stdout}${tsc.stderr}${tsc.error ?? ""}`);
  }
}
process.exit(failed ? 1 : 0);
