/** Writes `purser.schema.json`, the JSON Schema editors read, from the readers' own names and bounds. Run after changing the language. */
import { writeFileSync } from "node:fs";
import { buildSchema } from "../src/config/schema.ts";

writeFileSync(new URL("../purser.schema.json", import.meta.url), `${JSON.stringify(buildSchema(), undefined, 2)}\n`);
