/** The documentation of the REST interface, made from its OpenAPI description. */
import "./style.css";
import "./theme";
import { h } from "./dom";
import { T } from "./texts";

interface Schema {
  $ref?: string;
  type?: string;
  items?: Schema;
  anyOf?: Schema[];
  oneOf?: Schema[];
  const?: unknown;
  enum?: unknown[];
  properties?: Record<string, Schema>;
  required?: string[];
  description?: string;
  additionalProperties?: Schema | boolean;
}
interface Content {
  content?: Record<string, { schema?: Schema }>;
}
interface Operation {
  summary: string;
  description?: string;
  tags?: string[];
  parameters?: { name: string; in: string; required?: boolean; schema: Schema }[];
  requestBody?: Content;
  responses: Record<string, Content & { description: string }>;
}
interface Api {
  info: { title: string; version: string; description: string };
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Schema> };
}

function typeOf(schema: Schema | undefined): Node | string {
  if (!schema) return "any";
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop()!;
    return h("a", { href: `#${name}` }, name);
  }
  const some = schema.anyOf ?? schema.oneOf;
  if (some) return h("span", {}, ...some.flatMap((one, k) => (k ? [" | ", typeOf(one)] : [typeOf(one)])));
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if (schema.type === "array") return h("span", {}, typeOf(schema.items), "[]");
  return schema.type ?? "any";
}

function content(of: Content | undefined): (Node | string)[] {
  return Object.entries(of?.content ?? {}).flatMap(([kind, { schema }]) => [h("code", {}, kind), " ", typeOf(schema)]);
}

function operation(method: string, path: string, one: Operation): HTMLElement {
  const good = Object.entries(one.responses).filter(([status]) => status.startsWith("2"));
  return h(
    "details",
    {},
    h("summary", {}, h("b", {}, method.toUpperCase()), " ", h("code", {}, path), " ", one.description?.split("\n")[0] ?? one.summary),
    h("p", {}, one.description ?? ""),
    h(
      "dl",
      {},
      ...(one.parameters ?? []).flatMap((given) => [
        h("dt", {}, h("code", {}, given.name), ` in the ${given.in}`),
        h("dd", {}, typeOf(given.schema), given.required ? "" : " (may be left out)"),
      ]),
      ...(one.requestBody ? [h("dt", {}, "Body"), h("dd", {}, ...content(one.requestBody))] : []),
      ...good.flatMap(([status, answer]) => [h("dt", {}, status), h("dd", {}, ...content(answer))]),
    ),
  );
}

function schema(name: string, one: Schema): HTMLElement {
  return h(
    "section",
    { id: name },
    h("h3", {}, name),
    h("p", {}, one.description ?? ""),
    h(
      "dl",
      {},
      ...Object.entries(one.properties ?? {}).flatMap(([key, value]) => [
        h("dt", {}, h("code", {}, key), one.required?.includes(key) ? "" : " (may be left out)"),
        h("dd", {}, typeOf(value), value.description ? `: ${value.description}` : ""),
      ]),
    ),
  );
}

async function main(): Promise<void> {
  const api: Api = await (await fetch("/api/openapi.json")).json();
  const all = Object.entries(api.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, one]) => ({ path, method, one })));
  const tags = [...new Set(all.map(({ one }) => one.tags?.[0] ?? ""))];
  document.body.className = "document";
  document.getElementById("api")!.append(
    h("h1", {}, `${api.info.title} ${api.info.version}: ${T.apiPage}`),
    h("p", {}, api.info.description),
    h("p", {}, h("a", { href: "/api/openapi.json" }, "openapi.json")),
    ...tags.flatMap((tag) => [
      h("h2", {}, tag),
      ...all.filter(({ one }) => (one.tags?.[0] ?? "") === tag).map(({ path, method, one }) => operation(method, path, one)),
    ]),
    h("h2", {}, "forms"),
    ...Object.entries(api.components.schemas).map(([name, one]) => schema(name, one)),
  );
}

void main();
