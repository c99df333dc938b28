package identity

// BoundIterations is for fuzzing.
var BoundIterations = boundIterations
