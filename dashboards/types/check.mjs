#!/usr/bin/env node
// check.mjs FOLDER DASHBOARD…: type-checks classic dashboards against Grafana's published types, of today's major version and of
// the one before. FOLDER keeps the packages between two runs. Exit code 1 and TypeScript's words when one does not fit.
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const [folder, ...dashboards] = process.argv.slice(2).map((path) => resolve(path));
if (!folder || dashboards.length === 0) {
  console.error("check.mjs: give a folder and at least one dashboard");
  process.exit(64);
}

mkdirSync(folder, { recursive: true });
const lock = readFileSync(join(here, "package-lock.json"), "utf8");
const installed = join(folder, "installed-lock.json");
for (const file of ["package.json", "package-lock.json", ".npmrc", "dashboard.ts"]) {
  cpSync(join(here, file), join(folder, file));
}
if (!existsSync(installed) || readFileSync(installed, "utf8") !== lock) {
  rmSync(installed, { force: true });
  execFileSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
  writeFileSync(installed, lock);
}

// Both say which version of the form they write.
const { defaultDashboard } = await import(join(folder, "node_modules/@grafana/schema/dist/esm/index.mjs"));
const before = await import(join(folder, "node_modules/grafana-schema-12/dist/esm/index.mjs"));
const files = dashboards.map((path) => {
  const text = readFileSync(path, "utf8");
  for (const version of [defaultDashboard.schemaVersion, before.defaultDashboard.schemaVersion]) {
    if (JSON.parse(text).schemaVersion !== version) {
      console.error(`${path}: schemaVersion is not ${version}`);
      process.exit(1);
    }
  }
  const file = `${basename(path, ".json")}.check.ts`;
  writeFileSync(
    join(folder, file),
    `import type { Classic, Published } from "./dashboard";\n\nconst dashboard = ${text.trimEnd()} satisfies Classic;\n\nexport const published: Published = dashboard;\n`,
  );
  return file;
});

const panel = (folder, name) => [`@grafana/schema/dist/esm/raw/composable/${folder}/panelcfg/x/${name}PanelCfg_types.gen`, [`./node_modules/grafana-schema-12/dist/types/raw/composable/${folder}/panelcfg/x/types.gen.d.ts`]];
const previous = Object.fromEntries([
  ["@grafana/schema", ["./node_modules/grafana-schema-12/dist/types/index.d.ts"]],
  panel("stat", "Stat"),
  panel("statetimeline", "StateTimeline"),
  panel("timeseries", "TimeSeries"),
]);
const compilerOptions = { strict: true, noEmit: true, skipLibCheck: true, target: "es2022", module: "preserve", moduleResolution: "bundler", types: [] };
let failed = false;
for (const [name, paths] of [["today", {}], ["previous", previous]]) {
  const project = join(folder, `tsconfig.${name}.json`);
  writeFileSync(project, JSON.stringify({ compilerOptions: { ...compilerOptions, paths }, files }, null, 2));
  const tsc = spawnSync(process.execPath, [join(folder, "node_modules/typescript/bin/tsc"), "-p", project, "--pretty", "false"], { cwd: folder, encoding: "utf8" });
  if (tsc.status !== 0) {
    failed = true;
    console.error(`Grafana's types, ${name}: ${tsc.error ?? ""}\n${tsc.stdout}${tsc.stderr}`);
  }
}
process.exit(failed ? 1 : 0);
