// Executable half of ARCHITECTURE.md: who may import whom.
const features = "completion|chat|refactor";
const VSCODE = "(^|/)vscode(/|$)";
// Engine layers, lowest first; a layer may import only layers below it.
const engineLayers = [
  "engine/base/",
  "engine/backend/",
  "engine/(loader|tokenizer|kvcache|sampling|drafts)/",
  "engine/(model|prompt)/",
  "engine/scheduler/",
  "engine/engine\\.ts$",
  "engine/(engine(Host|Messages|Run|Worker)|hostedEngine|restartPolicy|eventOutbox)\\.ts$",
  "engine/(server|bench|doctor|modelStore)/",
  "engine/main\\.ts$",
];
const noUpward = engineLayers.slice(0, -1).map((layer, i) => ({
  name: `engine-layer-${i}-imports-only-below`,
  severity: "error",
  from: { path: `^${layer}` },
  to: { path: `^(${engineLayers.slice(i + 1).join("|")})` },
}));

module.exports = {
  forbidden: [
    { name: "no-cycles", severity: "error", from: {}, to: { circular: true } },
    {
      name: "protocol-is-a-leaf",
      severity: "error",
      from: { path: "^engine/protocol/", pathNot: "\\.test\\.ts$" },
      to: { path: "^(src|engine|webview|test)/", pathNot: "^engine/protocol/" },
    },
    {
      name: "engine-stands-alone",
      severity: "error",
      from: { path: "^engine/" },
      to: { path: "^(src|webview)/" },
    },
    {
      name: "clients-see-only-engine-protocol",
      severity: "error",
      from: { path: "^src/" },
      to: { path: "^engine/", pathNot: "^engine/protocol/" },
    },
    {
      name: "vscode-only-in-adapters",
      severity: "error",
      from: { path: "^(src|engine|webview)/", pathNot: "^src/(vscode/|extension\\.ts$)" },
      to: { path: VSCODE, pathNot: "^src/vscode/" },
    },
    {
      name: "adapters-are-outermost",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(vscode/|extension\\.ts$)" },
      to: { path: "^src/(vscode/|extension\\.ts$)" },
    },
    {
      name: "cli-is-outermost",
      severity: "error",
      from: { path: "^(src|engine)/", pathNot: "^src/cli/" },
      to: { path: "^src/cli/" },
    },
    {
      name: "features-are-siblings",
      severity: "error",
      from: { path: `^src/(${features})/` },
      to: { path: `^src/(${features})/`, pathNot: "^src/$1/" },
    },
    {
      name: "replay-measures-and-is-not-used",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(replay|cli)/" },
      to: { path: "^src/replay/" },
    },
    {
      name: "context-bench-measures-and-is-not-used",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(contextBench|cli)/" },
      to: { path: "^src/contextBench/" },
    },
    {
      name: "base-is-a-leaf",
      severity: "error",
      from: { path: "^src/base/" },
      to: { path: "^(src|engine|webview)/", pathNot: "^src/base/" },
    },
    {
      name: "server-knows-no-tensors",
      severity: "error",
      from: { path: "^engine/server/" },
      to: { path: "^engine/(backend|model|kvcache|loader|sampling)/" },
    },
    {
      name: "product-code-imports-no-tests",
      severity: "error",
      from: { path: "^(src|engine|webview)/", pathNot: "\\.test\\.ts$" },
      to: { path: "(^test/|\\.test\\.ts$)" },
    },
    ...noUpward,
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    exclude: { path: "(^|/)(dist|build)/" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    moduleSystems: ["es6", "cjs"],
  },
};
