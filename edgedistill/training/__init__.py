"""The one way any model here is trained: a teacher on gold labels, a student on the teacher's."""
