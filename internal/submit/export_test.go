package submit

// OldAnswers finds the answers that ForgetAnswers deletes.
const OldAnswers = oldAnswers
