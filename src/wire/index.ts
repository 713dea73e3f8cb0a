// What processes say to each other and to clients: schemas and shapes, no transport.
export * from './emulated-tokens.ts';
export * from './fleet-protocol.ts';
export * from './gateway-admin.ts';
export * from './openai.ts';
