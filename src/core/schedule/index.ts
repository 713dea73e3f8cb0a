// Rates → how many replicas of each class, and which share of each type they take.
export * from './assign.ts';
