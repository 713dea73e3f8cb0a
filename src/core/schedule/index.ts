// Rates → how many replicas of each class, and which share of each type they take.
export * from './assign.ts';
export * from './candidate-classes.ts';
export { searchDeployments } from './search.ts';
export * from './search-problem.ts';
