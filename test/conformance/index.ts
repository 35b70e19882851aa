/** The suites that every plugin passes. A plugin's own test calls one of them with a factory. */
export * from './runtime/index.js';
export * from './target/index.js';
