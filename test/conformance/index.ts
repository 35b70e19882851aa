/** The suites that every plugin passes. A plugin's own test is a factory that one of these takes. */
export * from './runtime/index.js';
export * from './target/index.js';
