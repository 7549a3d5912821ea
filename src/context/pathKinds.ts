// What a file's path says of what it is.

/** Tests and what they need. */
export const TEST_PATH = /(?:^|[/_.-])(?:tests?|specs?|mocks?|fixtures?|testdata)(?:[/_.-]|$)/i;

/** Copies of the sources, made by a build or brought along. */
export const COPY_PATH =
  /(?:^|\/)(?:dist|build|out|lib|esm|cjs|types|_types|_cjs|_esm|vendor|third_party|generated)\/|[-_.](?:generated|designer)\.|\.min\.|\.d\.[cm]?ts$|\.pyi$|\.pb\.(?:go|h|cc)$|_pb2\.py$/i;
